// What moves on a page: see page.py for the markup it acts on. Names are put in as text, never as markup.
"use strict";

(() => {
  const data = JSON.parse(document.getElementById("page-data").textContent);
  const $ = (selector, root = document) => root.querySelector(selector);
  const $$ = (selector, root = document) => [...root.querySelectorAll(selector)];

  /** An element: make("p", {class: "note"}, "text", other). */
  function make(name, attributes = {}, ...inside) {
    const element = document.createElement(name);
    for (const [key, value] of Object.entries(attributes)) if (value !== null && value !== undefined) element.setAttribute(key, value);
    element.append(...inside.filter((one) => one !== null && one !== undefined));
    return element;
  }

  // ---- pictures: an image gets its bytes when it comes near the screen, and all get them before printing ----

  function picture(img) {
    if (img.src) return;
    img.addEventListener("load", () => img.classList.toggle("small", Math.max(img.naturalWidth, img.naturalHeight) < 60), { once: true });
    img.src = "data:image/webp;base64," + data.pictures[Number(img.dataset.picture)];
  }

  const seen = new IntersectionObserver(
    (entries) => entries.filter((entry) => entry.isIntersecting).forEach(({ target }) => (seen.unobserve(target), picture(target))),
    { rootMargin: "500px" },
  );
  const watch = (root) => $$("img[data-picture]", root).forEach((img) => seen.observe(img));
  watch(document);
  addEventListener("beforeprint", () => $$("img[data-picture]").filter((img) => img.checkVisibility()).forEach(picture));

  /** The same tile as pictures.py makes. `found` is a number of data.pictures, or why there is none. */
  function tile(path, found, lines, kind = "") {
    const shown = typeof found === "number" ? make("img", { "data-picture": found, alt: path, decoding: "async" }) : make("span", { class: "gone" }, found);
    const caption = make("figcaption", {}, ...lines.map((line) => make("span", {}, line)));
    caption.append(make("span", { class: "path", title: path }, make("bdi", {}, path)));
    return make("figure", { class: ("tile " + kind).trim(), "data-path": path }, make("div", { class: "frame" }, shown), caption);
  }

  /** A name from a stranger, as page.py's `name_of` makes it. */
  const named = (name) => make("bdi", { class: "name" }, ...name.split(/(?<=_)/).flatMap((part) => [part, make("wbr")]));

  /** Puts elements in the place of what an element holds, and gives its pictures their bytes. */
  function fill(element, children) {
    element.replaceChildren(...children);
    $$("img[data-picture]", element).forEach(picture);
  }

  const percent = (share) => (100 * share).toFixed(1) + "\u00a0%";

  window.sightline = { data, make, named, tile, fill, picture, percent };

  // A box that has more to the side says so; it is asked anew when its size changes, as when a <details> opens.
  const wide = new ResizeObserver((changed) => changed.forEach(({ target }) => target.classList.toggle("over", target.scrollWidth > target.clientWidth + 1)));
  $$(".scroll").forEach((box) => wide.observe(box));

  // ---- tables that sort ----

  for (const table of $$("table.sortable")) {
    const body = table.tBodies[0];
    const value = (row, column) => {
      const cell = row.cells[column];
      return cell.dataset.v === undefined ? cell.textContent.trim() : cell.dataset.v === "" ? NaN : Number(cell.dataset.v);
    };
    const compare = (a, b) => (typeof a === "string" ? a.localeCompare(b, undefined, { numeric: true }) : a - b);
    $$("thead button", table).forEach((button) => {
      const head = button.closest("th");
      button.addEventListener("click", () => {
        const numbers = body.rows.length && typeof value(body.rows[0], head.cellIndex) === "number";
        const before = head.getAttribute("aria-sort");
        const order = before === "ascending" ? "descending" : before === "descending" ? "ascending" : numbers ? "descending" : "ascending";
        $$("th[aria-sort]", table).forEach((other) => other.setAttribute("aria-sort", "none"));
        head.setAttribute("aria-sort", order);
        const sign = order === "ascending" ? 1 : -1;
        const keyed = [...body.rows].map((row) => [value(row, head.cellIndex), row]);
        keyed.sort(([a], [b]) => (Number.isNaN(a) ? 1 : Number.isNaN(b) ? -1 : sign * compare(a, b)));
        body.append(...keyed.map(([, row]) => row));
      });
    });
  }

  // A field that leaves only the rows whose name holds what is typed.
  for (const field of $$("input[data-filters]")) {
    const rows = [...document.getElementById(field.dataset.filters).tBodies[0].rows];
    field.addEventListener("input", () => {
      const wanted = field.value.trim().toLowerCase();
      rows.forEach((row) => (row.hidden = !row.cells[0].textContent.toLowerCase().includes(wanted)));
    });
  }

  // On a small screen only the first of each row of boxes is open: the page would be very long.
  if (innerWidth < 640)
    for (const section of $$("main > section")) $$("details.one[open]", section).slice(1).forEach((box) => (box.open = false));

  // A link to something inside a closed <details> opens it.
  function open() {
    const target = location.hash.length > 1 && document.getElementById(decodeURIComponent(location.hash.slice(1)));
    for (let box = target; box; box = box.parentElement) if (box.tagName === "DETAILS") box.open = true;
    if (target) target.scrollIntoView();
  }
  addEventListener("hashchange", open);
  open();

  // ---- the list of contents shows where one is ----

  const links = new Map($$(".contents a").map((link) => [link.hash.slice(1), link]));
  const where = new IntersectionObserver(
    () => {
      const passed = $$("main > section").filter((section) => section.getBoundingClientRect().top < innerHeight * 0.35);
      const now = passed.length ? links.get(passed[passed.length - 1].id) : null;
      for (const link of links.values()) link === now ? link.setAttribute("aria-current", "true") : link.removeAttribute("aria-current");
      if (now && now.parentElement.parentElement.scrollWidth > now.parentElement.parentElement.clientWidth)
        now.parentElement.parentElement.scrollLeft = now.offsetLeft - 60;
    },
    { rootMargin: "-30% 0px -65% 0px" },
  );
  $$("main > section").forEach((section) => where.observe(section));

  // ---- the confusion matrix ----

  const matrix = $("table.matrix");
  if (matrix) {
    const { classes, images } = data; // images: columns path, label, predicted, confidence, chance, picture
    const shownClasses = data.matrix; // numbers of the classes that the rows and columns stand for
    const box = $(".matrix-box");
    const panel = $(".cell-panel");
    const readout = $(".readout");
    const rows = [...matrix.tBodies[0].rows].map((row) => [...row.cells].slice(1));
    const heads = [...matrix.tHead.rows[0].cells].slice(1);
    const support = [...matrix.tBodies[0].rows].map((row) => Number(row.dataset.support));
    const byCell = new Map();
    images.path.forEach((_, i) => {
      const key = images.label[i] + "," + images.predicted[i];
      byCell.has(key) ? byCell.get(key).push(i) : byCell.set(key, [i]);
    });
    let at = [0, 0];

    const place = (cell) => [cell.parentElement.sectionRowIndex, cell.cellIndex - 1];
    const count = (cell) => Number(cell.dataset.n || 0);

    function words(r, c) {
      const n = count(rows[r][c]);
      const [truth, called] = [classes[shownClasses[r]], classes[shownClasses[c]]];
      const share = support[r] ? ", " + percent(n / support[r]) + " of its " + support[r].toLocaleString("en") : "";
      return (r === c ? truth + ", recognised" : truth + " called " + called) + ": " + n.toLocaleString("en") + (n === 1 ? " image" : " images") + (n ? share : "");
    }

    function light(r, c) {
      $$(".lit", matrix).forEach((head) => head.classList.remove("lit"));
      rows[r][c].parentElement.cells[0].classList.add("lit");
      heads[c].classList.add("lit");
      readout.textContent = words(r, c);
    }

    function focus(r, c) {
      rows[at[0]][at[1]].tabIndex = -1;
      at = [r, c];
      const cell = rows[r][c];
      cell.tabIndex = 0;
      cell.setAttribute("aria-label", words(r, c));
      cell.focus({ preventScroll: true });
      reveal(cell);
      light(r, c);
    }

    /** Scrolls the box so that a cell is not under the names, which stay where they are. */
    function reveal(cell) {
      const left = matrix.tBodies[0].rows[0].cells[0].offsetWidth;
      const top = matrix.tHead.offsetHeight;
      if (cell.offsetLeft - left < box.scrollLeft) box.scrollLeft = cell.offsetLeft - left;
      if (cell.offsetTop - top < box.scrollTop) box.scrollTop = cell.offsetTop - top;
      if (cell.offsetLeft + cell.offsetWidth > box.scrollLeft + box.clientWidth) box.scrollLeft = cell.offsetLeft + cell.offsetWidth - box.clientWidth;
      if (cell.offsetTop + cell.offsetHeight > box.scrollTop + box.clientHeight) box.scrollTop = cell.offsetTop + cell.offsetHeight - box.clientHeight;
    }

    function show(r, c, move) {
      const cell = rows[r][c];
      const n = count(cell);
      if (!n) return;
      $$("[aria-selected]", matrix).forEach((other) => other.removeAttribute("aria-selected"));
      cell.setAttribute("aria-selected", "true");
      const found = byCell.get(shownClasses[r] + "," + shownClasses[c]) || [];
      const right = r === c;
      const tiles = found.map((i) => {
        const lines = [percent(images.confidence[i]) + " sure", right ? null : percent(images.chance[i]) + " for its label"];
        return tile(images.path[i], images.picture[i], lines.filter(Boolean), right ? "right" : "wrong");
      });
      $("h3", panel).textContent = words(r, c);
      const part = found.length < n ? found.length.toLocaleString("en") + " of " + n.toLocaleString("en") + " shown: " : "";
      $(".note", panel).textContent = part + (right ? "the least sure first." : "the surest mistakes first.");
      fill($(".gallery", panel), tiles);
      if (move) panel.scrollIntoView({ block: "nearest" });
    }

    matrix.addEventListener("click", (event) => {
      const cell = event.target.closest("td");
      if (!cell) return;
      const [r, c] = place(cell);
      focus(r, c);
      show(r, c, true);
    });
    matrix.addEventListener("mouseover", (event) => {
      const cell = event.target.closest("td");
      if (cell) light(...place(cell));
    });
    matrix.addEventListener("keydown", (event) => {
      const [r, c] = at;
      const last = rows.length - 1;
      const to = {
        ArrowUp: [r - 1, c], ArrowDown: [r + 1, c], ArrowLeft: [r, c - 1], ArrowRight: [r, c + 1],
        Home: event.ctrlKey ? [0, 0] : [r, 0], End: event.ctrlKey ? [last, last] : [r, last], PageUp: [Math.max(0, r - 10), c], PageDown: [Math.min(last, r + 10), c],
      }[event.key];
      if (event.key === "Enter" || event.key === " ") show(r, c, true);
      else if (to && rows[to[0]] && rows[to[0]][to[1]]) focus(...to);
      else if (!to) return;
      event.preventDefault();
    });
    matrix.addEventListener("focusin", (event) => event.target.tagName === "TD" && light(...place(event.target)));

    // Sizes: what fits the width, but no smaller than can be hit; the buttons go on from there.
    const sizes = [6, 8, 10, 12, 14, 17, 20, 24, 28, 34, 42, 52, 64];
    let size = 34;
    function resize(wanted) {
      size = wanted;
      matrix.style.setProperty("--cell", size + "px");
      matrix.classList.toggle("tiny", size < 17);
    }
    function fit(least) {
      const area = box.parentElement;
      const room = area.clientWidth - matrix.tBodies[0].rows[0].cells[0].offsetWidth - 4;
      resize(Math.max(least, Math.min(46, Math.floor(room / rows.length))));
    }
    const step = (up) => resize(up ? sizes.find((one) => one > size) || size : [...sizes].reverse().find((one) => one < size) || size);
    $("[data-zoom='in']").addEventListener("click", () => step(true));
    $("[data-zoom='out']").addEventListener("click", () => step(false));
    $("[data-zoom='fit']").addEventListener("click", () => fit(4));
    fit(9);
    $("[data-zoom]").parentElement.hidden = size >= 34; // where there are few classes, nothing is gained by them

    // It opens with the largest confusion, so that one sees what a click does.
    const cells = rows.flat().filter((cell) => cell.classList.contains("miss"));
    const first = cells.reduce((most, cell) => (count(cell) > count(most) ? cell : most), cells[0] || rows[0][0]);
    at = place(first);
    first.tabIndex = 0;
    first.setAttribute("aria-label", words(...at));
    light(...at);
    show(...at, false);
  }
})();
