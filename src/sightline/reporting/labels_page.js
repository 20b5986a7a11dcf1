/* The desk of labels.html: shows one suspect at a time, hears keys and buttons, keeps the decisions, saves them as CSV.
   Every name comes from strangers and is only ever set as text. The log of decisions is the one state: what holds is its
   replay, undo takes its last entry off, and it is what localStorage keeps. */
"use strict";
(() => {
  const at = (name) => document.getElementById("labels-" + name);
  if (!document.getElementById("labels")) return;
  const data = window.sightline.data;
  const { key, classes, suspects, samples } = data.labels;
  const storeName = "sightline-labels:" + key;
  let keeps = true; // whether the browser keeps what it is given
  let log = load(); // [{path, action, label, old}], labels as names
  let part = suspects.some((one) => one.split !== "test") ? "rest" : "test";
  let place = 0;

  // ---- what was decided -----------------------------------------------------------------------------------------------

  function load() {
    try {
      const found = JSON.parse(localStorage.getItem(storeName) || "[]");
      return Array.isArray(found) ? found.filter((one) => one && typeof one.path === "string" && typeof one.label === "string") : [];
    } catch {
      keeps = false;
      return [];
    }
  }

  function keep() {
    try {
      localStorage.setItem(storeName, JSON.stringify(log));
      keeps = true;
    } catch {
      keeps = false;
    }
  }

  const decisions = () => new Map(log.map((one) => [one.path, one]));
  const shown = () => suspects.filter((one) => (one.split === "test") === (part === "test"));

  function decide(action, label) {
    const suspect = shown()[place];
    if (!suspect) return;
    const old = classes[suspect.label];
    log.push({ path: suspect.path, action, label: action === "relabel" ? label : old, old });
    keep();
    const words = { keep: "Kept as " + old, relabel: "Relabelled to " + label, drop: "Dropped" }[action];
    const decided = decisions();
    const rows = shown();
    const order = rows.map((_, i) => (place + 1 + i) % rows.length);
    const next = order.find((i) => !decided.has(rows[i].path));
    if (next !== undefined) place = next;
    draw();
    say(words + (next === undefined ? ". All of this list are decided: save corrections.csv." : "."));
    if (next === undefined) at("save").focus({ preventScroll: true });
  }

  function relabel(number) {
    const suspect = shown()[place];
    if (!suspect || number === undefined) return;
    if (number === suspect.label) decide("keep");
    else decide("relabel", classes[number]);
  }

  function undo() {
    const last = log.pop();
    if (!last) return say("Nothing to undo.");
    keep();
    const suspect = suspects.find((one) => one.path === last.path);
    if (suspect) {
      part = suspect.split === "test" ? "test" : "rest";
      place = shown().indexOf(suspect);
    }
    draw();
    say("Undone.");
  }

  function move(by) {
    place = Math.min(Math.max(place + by, 0), shown().length - 1);
    draw();
  }

  // ---- corrections.csv ------------------------------------------------------------------------------------------------

  const quoted = (text) => (/[",\r\n]|^\s|\s$/.test(text) ? '"' + text.replaceAll('"', '""') + '"' : text);

  function csv() {
    const rows = [...decisions().values()].map((one) => [one.path, one.label, one.action, one.old]);
    return [["path", "label", "action", "old_label"], ...rows].map((row) => row.map(quoted).join(",") + "\n").join("");
  }

  function save() {
    if (!log.length) return say("Nothing is decided yet.");
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([csv()], { type: "text/csv;charset=utf-8" }));
    link.download = "corrections.csv";
    document.body.append(link);
    link.click();
    link.remove();
    setTimeout(() => URL.revokeObjectURL(link.href), 10000);
    const count = decisions().size;
    say("Saved " + count + (count === 1 ? " decision" : " decisions") + " as corrections.csv.");
  }

  // ---- drawing --------------------------------------------------------------------------------------------------------

  function make(name, className, ...inside) {
    const element = document.createElement(name);
    if (className) element.className = className;
    element.append(...inside);
    return element;
  }

  function picture(one, alt) {
    if (typeof one.picture !== "number") return make("span", "gone", one.picture);
    const image = make("img");
    image.addEventListener("load", () => image.classList.toggle("small", Math.max(image.naturalWidth, image.naturalHeight) < 60), { once: true });
    image.src = "data:image/webp;base64," + data.pictures[one.picture];
    image.alt = alt;
    image.title = one.path;
    return image;
  }

  const named = (number) => window.sightline.named(classes[number]);
  const percent = (chance) => (chance > 0 && chance < 0.005 ? "<1 %" : Math.round(100 * chance) + " %");
  const say = (words) => (at("said").textContent = words);

  function draw() {
    const rows = shown();
    place = Math.min(place, Math.max(rows.length - 1, 0));
    const suspect = rows[place];
    const decided = decisions();
    choosing(false);
    drawBar(rows, decided);
    if (!suspect) return;
    const decision = decided.get(suspect.path);
    at("warning").hidden = suspect.split !== "test";
    at("place").textContent = place + 1 + " of " + rows.length + " · " + suspect.split + " · score " + suspect.score.toFixed(3) + " of 1";
    at("picture").replaceChildren(picture(suspect, "suspect, labelled " + classes[suspect.label]));
    at("path").replaceChildren(make("bdi", "", suspect.path));
    at("label").replaceChildren(named(suspect.label));
    at("likely").replaceChildren(named(suspect.likely));
    at("relabel").firstElementChild.replaceChildren("Relabel to ", named(suspect.likely));
    at("relabel").title = "Relabel to " + classes[suspect.likely];
    at("relabel").ariaLabel = at("relabel").title;
    drawDecision(decision);
    at("top").replaceChildren(...suspect.top.map(([number, chance], i) => choice(suspect, number, chance, i + 1)));
    for (const which of ["label", "likely"]) drawShelf(which, suspect[which]);
    at("previous").disabled = place === 0;
    at("next").disabled = place === rows.length - 1;
    at("undo").disabled = !log.length;
  }

  function drawBar(rows, decided) {
    const done = rows.filter((one) => decided.has(one.path)).length;
    const count = (action) => [...decided.values()].filter((one) => one.action === action).length;
    at("progress").max = Math.max(rows.length, 1);
    at("progress").value = done;
    const sums = ["kept", "relabelled", "dropped"].map((word, i) => count(["keep", "relabel", "drop"][i]) + " " + word);
    at("count").textContent = done + " of " + rows.length + " decided · " + sums.join(", ");
    at("save").disabled = !decided.size;
    at("part").value = part;
  }

  function drawDecision(decision) {
    const line = at("decision");
    line.dataset.action = decision ? decision.action : "";
    line.replaceChildren("Undecided");
    if (decision && decision.action === "keep") line.replaceChildren("Kept");
    if (decision && decision.action === "drop") line.replaceChildren("Dropped");
    if (decision && decision.action === "relabel") line.replaceChildren("Relabelled to ", window.sightline.named(decision.label));
  }

  function choice(suspect, number, chance, key) {
    const meter = make("span", "labels-meter");
    meter.style.setProperty("--share", chance);
    const own = number === suspect.label ? make("em", "", "its label") : "";
    const button = make("button", "", make("kbd", "", String(key)), make("span", "labels-chance-name", named(number), " ", own), meter, percent(chance));
    button.type = "button";
    button.addEventListener("click", () => relabel(number));
    return make("li", "", button);
  }

  function drawShelf(which, number) {
    const found = samples[number] || [];
    at(which + "-title").replaceChildren("What fits ", named(number));
    const none = make("p", "", "No picture of this class was both seen and told right.");
    at(which + "-samples").replaceChildren(...(found.length ? found.map((one) => picture(one, "a picture of " + classes[number])) : [none]));
  }

  // ---- choosing a class by name or number -------------------------------------------------------------------------------

  function choosing(on) {
    at("choose").hidden = !on;
    if (!on) return at("wanted").blur(); // at once: a key that follows quickly is for the page
    at("wanted").value = "";
    matches();
    at("wanted").focus();
  }

  function matching() {
    const text = at("wanted").value.trim().toLocaleLowerCase();
    const numbers = classes.map((_, i) => i);
    if (/^\d+$/.test(text) && classes[Number(text) - 1] !== undefined && !classes.includes(text)) return [Number(text) - 1];
    const within = numbers.filter((i) => classes[i].toLocaleLowerCase().includes(text));
    const rank = (i) => (classes[i].toLocaleLowerCase() === text ? 0 : classes[i].toLocaleLowerCase().startsWith(text) ? 1 : 2);
    return within.sort((a, b) => rank(a) - rank(b) || a - b);
  }

  function matches() {
    const found = matching();
    const items = found.slice(0, 8).map((number) => {
      const button = make("button", "button", make("kbd", "", String(number + 1)), " ", named(number));
      button.type = "button";
      button.addEventListener("click", () => relabel(number));
      return make("li", "", button);
    });
    if (found.length > 8) items.push(make("li", "", "and " + (found.length - 8) + " more"));
    at("matches").replaceChildren(...(items.length ? items : [make("li", "", "No such class.")]));
  }

  // ---- hearing ----------------------------------------------------------------------------------------------------------

  const likely = () => shown()[place] && shown()[place].likely;
  const heard = {
    k: () => decide("keep"),
    r: () => relabel(likely()),
    d: () => decide("drop"),
    c: () => choosing(true),
    n: () => move(1),
    p: () => move(-1),
    u: undo,
    s: save,
    ArrowRight: () => move(1),
    ArrowLeft: () => move(-1),
    Escape: () => choosing(false),
  };
  for (const [i, key] of ["1", "2", "3", "4", "5"].entries()) heard[key] = () => relabel((shown()[place]?.top[i] || [])[0]);

  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.target.closest("input, select, textarea")) return;
    const act = heard[event.key.length === 1 ? event.key.toLowerCase() : event.key];
    if (!act) return;
    event.preventDefault();
    act();
  });

  at("wanted").addEventListener("input", matches);
  at("wanted").addEventListener("keydown", (event) => {
    if (event.key === "Escape") choosing(false);
    if (event.key !== "Enter") return;
    event.preventDefault();
    if (matching().length) relabel(matching()[0]);
  });
  at("part").addEventListener("change", () => {
    part = at("part").value;
    place = 0;
    at("part").blur();
    draw();
  });
  for (const [name, key] of Object.entries({ keep: "k", relabel: "r", other: "c", drop: "d", previous: "p", next: "n", undo: "u", save: "s" }))
    at(name).addEventListener("click", () => heard[key]());
  window.addEventListener("beforeunload", (event) => {
    if (!keeps && log.length) event.preventDefault();
  });

  const first = shown().findIndex((one) => !decisions().has(one.path));
  place = Math.max(first, 0);
  draw();
  if (!keeps) say("This browser does not keep decisions: save corrections.csv before you close the page.");
})();
