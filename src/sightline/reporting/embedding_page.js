// The plane of images: see embedding_page.py for its markup and its data. Names are put in as text, never as markup.
"use strict";

(() => {
  const { data, make, named, percent } = window.sightline;
  const root = document.querySelector(".map");
  const plane = data.embedding; // columns: path, label, predicted, confidence, x, y, picture; of classes: classes, colours, marks, short, anchors
  if (!root || !plane) return;
  const $ = (selector) => root.querySelector(selector);
  const canvas = $("canvas");
  const stage = $(".map-stage");
  const card = $(".map-card");
  const buttons = [...root.querySelectorAll("[data-class]")];
  const n = plane.path.length;
  const wrong = plane.label.map((label, i) => label !== plane.predicted[i]);
  const lower = plane.path.map((path) => path.toLowerCase());
  const lowerClass = plane.classes.map((name) => name.toLowerCase());
  const order = [...Array(n).keys()].sort((a, b) => wrong[a] - wrong[b]); // mistakes are drawn last, above the others

  const FEW = 400; // images up to which names keep off the dots: among more there is no room, and a drawing must be quick

  const hidden = new Set();
  let zoom = 1;
  let centre = [0, 0];
  let onlyWrong = false;
  let asPictures = false;
  let names = true;
  let wanted = "";
  let lit = null; // the class whose legend is pointed at
  let at = null; // the image that the card shows
  let pinned = false;

  // ---- what is shown ----

  const shown = (i) => !hidden.has(plane.label[i]) && (!onlyWrong || wrong[i]);
  const found = (i) => !wanted || lowerClass[plane.label[i]].includes(wanted) || lower[i].includes(wanted);
  const strong = (i) => found(i) && (lit === null || plane.label[i] === lit);
  const unit = () => (zoom * Math.min(canvas.clientWidth, canvas.clientHeight)) / 2.16;
  const place = (i) => screen(plane.x[i], plane.y[i]);
  const screen = (x, y) => [canvas.clientWidth / 2 + (x - centre[0]) * unit(), canvas.clientHeight / 2 - (y - centre[1]) * unit()];

  // ---- marks, each about a circle of radius 1 ----

  const polygon = (sides, turn, long = 1, short = long) => {
    const path = new Path2D();
    const corners = short === long ? sides : 2 * sides;
    for (let k = 0; k < corners; k++) {
      const angle = turn + (2 * Math.PI * k) / corners;
      const radius = k % 2 ? short : long;
      path[k ? "lineTo" : "moveTo"](radius * Math.cos(angle), radius * Math.sin(angle));
    }
    path.closePath();
    return path;
  };
  const cross = (turn) => {
    const path = new Path2D();
    const [a, b] = [0.42, 1.1];
    const corners = [[a, b], [a, a], [b, a], [b, -a], [a, -a], [a, -b], [-a, -b], [-a, -a], [-b, -a], [-b, a], [-a, a], [-a, b]];
    corners.forEach(([x, y], k) => path[k ? "lineTo" : "moveTo"](x * Math.cos(turn) - y * Math.sin(turn), x * Math.sin(turn) + y * Math.cos(turn)));
    path.closePath();
    return path;
  };
  const circle = new Path2D();
  circle.arc(0, 0, 1, 0, 2 * Math.PI);
  const up = -Math.PI / 2;
  const MARKS = [
    circle, polygon(4, Math.PI / 4, 1.22), polygon(3, up, 1.3), polygon(4, 0, 1.25), polygon(3, -up, 1.3),
    cross(0), cross(Math.PI / 4), polygon(5, up, 1.15), polygon(3, Math.PI, 1.3), polygon(5, up, 1.45, 0.62),
  ];

  // ---- drawing ----

  const dark = matchMedia("(prefers-color-scheme: dark)");
  const paper = matchMedia("print");
  let tones = {};
  function readTones() {
    const style = getComputedStyle(root);
    const tone = (name) => style.getPropertyValue(name).trim();
    const lift = dark.matches && !paper.matches ? 0.28 : 0;
    const lifted = plane.colours.map((hex) => "rgb(" + [1, 3, 5].map((k) => Math.round((1 - lift) * parseInt(hex.slice(k, k + 2), 16) + 255 * lift)).join(",") + ")");
    tones = { card: tone("--card"), ink: tone("--ink"), wrong: tone("--wrong"), line: tone("--line"), classes: lifted };
  }

  let waiting = false;
  function redraw() {
    if (waiting) return;
    waiting = true;
    requestAnimationFrame(() => ((waiting = false), draw()));
  }

  function draw() {
    const ratio = devicePixelRatio || 1;
    const [width, height] = [canvas.clientWidth, canvas.clientHeight];
    if (canvas.width !== Math.round(width * ratio) || canvas.height !== Math.round(height * ratio)) {
      canvas.width = Math.round(width * ratio);
      canvas.height = Math.round(height * ratio);
    }
    const pen = canvas.getContext("2d");
    pen.setTransform(ratio, 0, 0, ratio, 0, 0);
    pen.clearRect(0, 0, width, height);
    const inside = ([x, y]) => x > -40 && y > -40 && x < width + 40 && y < height + 40;
    const drawn = order.filter((i) => shown(i) && inside(place(i)));
    drawn.filter((i) => !strong(i)).forEach((i) => point(pen, ratio, i, 0.1));
    drawn.filter(strong).forEach((i) => point(pen, ratio, i, 0.92));
    pen.setTransform(ratio, 0, 0, ratio, 0, 0);
    if (asPictures) thumbnails(pen, drawn.filter(strong));
    if (names) labels(pen, width, height);
    if (at !== null) ring(pen, at);
    pen.globalAlpha = 1;
  }

  const radius = (i) => Math.min(9, Math.min(6, Math.max(2.8, Math.sqrt(8500 / n))) * Math.pow(zoom, 0.3)) * (wrong[i] ? 1.2 : 1) * Math.min(1, canvas.clientWidth / 560);

  function point(pen, ratio, i, alpha) {
    const [x, y] = place(i);
    const r = Math.max(2, radius(i));
    pen.setTransform(ratio * r, 0, 0, ratio * r, ratio * x, ratio * y);
    pen.globalAlpha = alpha;
    const mark = MARKS[plane.marks[plane.label[i]]];
    if (wrong[i] && alpha > 0.5) {
      pen.lineWidth = Math.min(3.4, 0.3 + 0.75 * r) / r; // a ring of ink around it
      pen.strokeStyle = tones.ink;
      pen.stroke(mark);
    } else if (alpha > 0.5) {
      pen.lineWidth = 1.2 / r;
      pen.strokeStyle = tones.card;
      pen.stroke(mark);
    }
    pen.fillStyle = tones.classes[plane.label[i]];
    pen.fill(mark);
  }

  const loaded = new Map();
  function image(i) {
    const number = plane.picture[i];
    if (typeof number !== "number") return null;
    if (!loaded.has(number)) {
      const made = new Image();
      made.onload = redraw;
      made.src = "data:image/webp;base64," + data.pictures[number];
      loaded.set(number, made);
    }
    const made = loaded.get(number);
    return made.complete && made.naturalWidth ? made : null;
  }

  /** Pictures where they do not cover each other; mistakes first, so that these are seen. */
  function thumbnails(pen, drawn) {
    const side = Math.min(96, 30 * Math.pow(zoom, 0.55));
    const taken = new Map();
    const free = (x, y) => {
      const [column, row] = [Math.floor(x / (side + 6)), Math.floor(y / (side + 6))];
      for (let dx = -1; dx <= 1; dx++)
        for (let dy = -1; dy <= 1; dy++) for (const [a, b] of taken.get(column + dx + "," + (row + dy)) || []) if (Math.abs(a - x) < side + 6 && Math.abs(b - y) < side + 6) return false;
      const key = column + "," + row;
      taken.set(key, [...(taken.get(key) || []), [x, y]]);
      return true;
    };
    pen.globalAlpha = 1;
    for (const i of [...drawn].reverse()) {
      const [x, y] = place(i);
      if (!free(x, y)) continue;
      const made = image(i);
      if (!made) continue;
      const scale = side / Math.max(made.naturalWidth, made.naturalHeight);
      const [w, h] = [made.naturalWidth * scale, made.naturalHeight * scale];
      const framed = (edge, tone) => ((pen.fillStyle = tone), pen.fillRect(x - w / 2 - edge, y - h / 2 - edge, w + 2 * edge, h + 2 * edge));
      if (wrong[i]) framed(4, tones.ink);
      framed(2, tones.classes[plane.label[i]]);
      pen.drawImage(made, x - w / 2, y - h / 2, w, h);
    }
  }

  function labels(pen, width, height) {
    const boxes = [];
    const dots = n > FEW ? [] : order.filter(shown).map((i) => [...place(i), radius(i), radius(i)]);
    pen.textAlign = "center";
    pen.textBaseline = "middle";
    pen.lineJoin = "round";
    for (const k of plane.bySize) {
      if (hidden.has(k) || !plane.anchors[k] || (lit !== null && lit !== k) || (wanted && !lowerClass[k].includes(wanted))) continue;
      const [x0, y0] = screen(...plane.anchors[k]);
      const text = lit === k ? plane.classes[k] : plane.short[k];
      pen.font = "650 13px system-ui, sans-serif";
      const half = [pen.measureText(text).width / 2 + 3, 9];
      if (x0 < 0 || y0 < 0 || x0 > width || y0 > height) continue;
      const spot = around(x0, y0, half, boxes, dots);
      if (!spot) continue;
      pen.globalAlpha = 0.88;
      pen.lineWidth = 4;
      pen.strokeStyle = tones.card;
      pen.strokeText(text, ...spot);
      pen.globalAlpha = 1;
      pen.fillStyle = tones.ink;
      pen.fillText(text, ...spot);
    }
  }

  /** A place for a label of half this size near its point: it covers no other label, and no dot where that can be; null: there is none. */
  function around(x, y, [w, h], boxes, dots) {
    const within = (at, half, size) => Math.min(Math.max(at, half), size - half);
    const free = ([px, py], taken) => !taken.some(([a, b, c, d]) => Math.abs(a - px) < c + w && Math.abs(b - py) < d + h);
    const places = [[x, y]];
    for (let ring = 1; ring < 4; ring++)
      for (let angle = 0; angle < 2 * Math.PI; angle += Math.PI / 4) places.push([x + ring * 1.5 * h * Math.cos(angle), y + ring * 1.5 * h * Math.sin(angle)]);
    const open = places.map(([px, py]) => [within(px, w, canvas.clientWidth), within(py, h, canvas.clientHeight)]).filter((one) => free(one, boxes));
    const found = open.find((one) => free(one, dots)) || open[0] || null;
    if (found) boxes.push([...found, w, h]);
    return found;
  }

  function ring(pen, i) {
    const [x, y] = place(i);
    pen.globalAlpha = 1;
    pen.beginPath();
    pen.arc(x, y, radius(i) + 6, 0, 2 * Math.PI);
    pen.lineWidth = 2.5;
    pen.strokeStyle = tones.ink;
    pen.stroke();
  }

  // ---- the card ----

  function show(i, say = false) {
    if (at === i && !say) return;
    at = i;
    redraw();
    card.hidden = i === null;
    if (i === null) return;
    const number = plane.picture[i];
    const picture = typeof number === "number" ? make("img", { alt: "", src: "data:image/webp;base64," + data.pictures[number] }) : make("span", { class: "gone" }, number);
    picture.addEventListener("load", () => picture.classList.toggle("small", Math.max(picture.naturalWidth, picture.naturalHeight) < 60));
    const [truth, called] = [plane.classes[plane.label[i]], plane.classes[plane.predicted[i]]];
    const words = wrong[i] ? "taken for " + called + ", " + percent(plane.confidence[i]) + " sure" : "recognised, " + percent(plane.confidence[i]) + " sure";
    card.replaceChildren(
      make("div", { class: "frame" }, picture),
      make("p", { class: "map-truth" }, named(truth)),
      make("p", { class: wrong[i] ? "wrong-ink" : "right-ink" }, words),
      make("p", { class: "path" }, make("bdi", {}, plane.path[i])),
    );
    if (say) $(".map-said").textContent = truth + ", " + words + ", " + plane.path[i];
    put();
  }

  function put() {
    if (at === null) return;
    card.classList.toggle("pinned", pinned);
    const [x, y] = place(at);
    const left = x + 18 + card.offsetWidth < stage.clientWidth ? x + 18 : x - 18 - card.offsetWidth;
    card.style.left = Math.max(4, Math.min(left, stage.clientWidth - card.offsetWidth - 4)) + "px";
    card.style.top = Math.max(4, Math.min(y - card.offsetHeight / 2, stage.clientHeight - card.offsetHeight - 4)) + "px";
  }

  function nearest(x, y, reach) {
    let best = null;
    let least = reach * reach;
    for (let i = 0; i < n; i++) {
      if (!shown(i) || !strong(i)) continue;
      const [px, py] = place(i);
      const far = (px - x) ** 2 + (py - y) ** 2 - (wrong[i] ? 4 : 0);
      if (far < least) [best, least] = [i, far];
    }
    return best;
  }

  // ---- moving about ----

  function move(x, y) {
    const edge = Math.max(0, 1.08 - 0.5 / zoom);
    centre = [Math.min(edge, Math.max(-edge, x)), Math.min(edge, Math.max(-edge, y))];
    canvas.style.touchAction = zoom > 1 ? "none" : "pan-y";
    redraw();
    put();
  }

  /** Zooms so that what lies at the point (x, y) of the canvas stays there. */
  function zoomTo(wish, x = canvas.clientWidth / 2, y = canvas.clientHeight / 2) {
    const before = [centre[0] + (x - canvas.clientWidth / 2) / unit(), centre[1] - (y - canvas.clientHeight / 2) / unit()];
    zoom = Math.min(60, Math.max(1, wish));
    if (zoom === 1) return move(0, 0);
    move(before[0] - (x - canvas.clientWidth / 2) / unit(), before[1] + (y - canvas.clientHeight / 2) / unit());
  }

  const pointers = new Map();
  let dragged = 0;
  const spot = (event) => [event.clientX - canvas.getBoundingClientRect().left, event.clientY - canvas.getBoundingClientRect().top];
  canvas.addEventListener("pointerdown", (event) => {
    pointers.set(event.pointerId, spot(event));
    if (zoom > 1 || pointers.size > 1) canvas.setPointerCapture(event.pointerId);
    dragged = 0;
  });
  canvas.addEventListener("pointermove", (event) => {
    const now = spot(event);
    const before = pointers.get(event.pointerId);
    if (before && pointers.size === 2) {
      const other = [...pointers].find(([id]) => id !== event.pointerId)[1];
      const distance = (a) => Math.hypot(a[0] - other[0], a[1] - other[1]);
      zoomTo((zoom * distance(now)) / Math.max(1, distance(before)), (now[0] + other[0]) / 2, (now[1] + other[1]) / 2);
      dragged = 99;
    } else if (before && zoom > 1) {
      move(centre[0] - (now[0] - before[0]) / unit(), centre[1] + (now[1] - before[1]) / unit());
      dragged += Math.hypot(now[0] - before[0], now[1] - before[1]);
      canvas.classList.toggle("moving", dragged > 4);
    } else if (!before && !pinned && event.pointerType !== "touch") {
      const near = nearest(...now, 16);
      canvas.classList.toggle("near", near !== null);
      show(near);
    }
    if (before) pointers.set(event.pointerId, now);
  });
  const lift = (event) => {
    if (pointers.delete(event.pointerId) && event.type === "pointerup" && dragged < 5) {
      const near = nearest(...spot(event), event.pointerType === "touch" ? 26 : 16);
      pinned = near !== null && !(pinned && near === at);
      show(near);
      put();
    }
    canvas.classList.remove("moving");
  };
  canvas.addEventListener("pointerup", lift);
  canvas.addEventListener("pointercancel", lift);
  canvas.addEventListener("pointerleave", () => pinned || pointers.size || document.activeElement === canvas || show(null));
  canvas.addEventListener(
    "wheel",
    (event) => {
      if (!event.ctrlKey && document.activeElement !== canvas) return; // the page scrolls, unless one is at work in the plane
      event.preventDefault();
      zoomTo(zoom * Math.exp(-event.deltaY * (event.ctrlKey ? 0.01 : 0.0016)), ...spot(event));
    },
    { passive: false },
  );

  canvas.addEventListener("keydown", (event) => {
    const ways = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] };
    if (ways[event.key]) walk(...ways[event.key]);
    else if (event.key === "+" || event.key === "=") zoomTo(zoom * 1.5, ...(at === null ? [] : place(at)));
    else if (event.key === "-") zoomTo(zoom / 1.5, ...(at === null ? [] : place(at)));
    else if (event.key === "0") zoomTo(1);
    else if (event.key === "Escape") (pinned = false), show(null);
    else if (event.key === "Enter" || event.key === " ") (pinned = at !== null && !pinned), put();
    else return;
    event.preventDefault();
  });

  /** To the nearest image on this side of the current one. */
  function walk(dx, dy) {
    const [x0, y0] = at === null ? centre : [plane.x[at], plane.y[at]];
    let best = null;
    let least = Infinity;
    for (let i = 0; i < n; i++) {
      if (i === at || !shown(i) || !strong(i)) continue;
      const [x, y] = [plane.x[i] - x0, plane.y[i] - y0];
      const along = x * dx + y * dy;
      const aside = Math.abs(x * dy - y * dx);
      const far = Math.hypot(x, y) + 2 * aside;
      if ((at === null || aside <= along) && along >= 0 && far < least) [best, least] = [i, far];
    }
    if (best === null) return;
    show(best, true);
    const [x, y] = place(best);
    if (x < 10 || y < 10 || x > canvas.clientWidth - 10 || y > canvas.clientHeight - 10) move(plane.x[best], plane.y[best]);
  }

  // ---- legend and buttons ----

  function update() {
    buttons.forEach((button) => button.setAttribute("aria-pressed", String(!hidden.has(Number(button.dataset.class)))));
    if (at !== null && !(shown(at) && found(at))) (pinned = false), show(null);
    let count = 0;
    for (let i = 0; i < n; i++) if (shown(i) && found(i)) count++;
    $(".map-count").textContent = count.toLocaleString("en") + " of " + n.toLocaleString("en") + " images";
    redraw();
  }

  const only = (k) => {
    const alone = hidden.size === plane.classes.length - 1 && !hidden.has(k);
    hidden.clear();
    if (!alone) plane.classes.forEach((_, other) => other !== k && hidden.add(other));
    update();
  };
  buttons.forEach((button) => {
    const k = Number(button.dataset.class);
    button.addEventListener("click", (event) => {
      if (event.shiftKey || event.altKey) return only(k);
      hidden.has(k) ? hidden.delete(k) : hidden.add(k);
      update();
    });
    button.addEventListener("keydown", (event) => event.key === "o" && only(k));
    const light = (on) => () => ((lit = on && !hidden.has(k) ? k : null), redraw());
    button.addEventListener("pointerenter", light(true));
    button.addEventListener("pointerleave", light(false));
    button.addEventListener("focus", light(true));
    button.addEventListener("blur", light(false));
  });

  const press = (name, act) =>
    $(`[data-map="${name}"]`).addEventListener("click", (event) => {
      const button = event.currentTarget;
      const on = button.getAttribute("aria-pressed") !== "true";
      if (button.hasAttribute("aria-pressed")) button.setAttribute("aria-pressed", String(on));
      act(on);
      update();
    });
  press("wrong", (on) => (onlyWrong = on));
  press("pictures", (on) => (asPictures = on));
  press("names", (on) => (names = on));
  press("all", () => hidden.clear());
  press("none", () => plane.classes.forEach((_, k) => hidden.add(k)));
  press("in", () => zoomTo(zoom * 1.6));
  press("out", () => zoomTo(zoom / 1.6));
  press("whole", () => zoomTo(1));
  $("input").addEventListener("input", (event) => {
    wanted = event.target.value.trim().toLowerCase();
    buttons.forEach((button) => (button.parentElement.hidden = Boolean(wanted) && !lowerClass[button.dataset.class].includes(wanted) && !someIn(Number(button.dataset.class))));
    update();
  });
  const someIn = (k) => plane.label.some((label, i) => label === k && lower[i].includes(wanted));

  for (const changed of [dark, paper]) changed.addEventListener("change", () => (readTones(), draw()));
  new ResizeObserver(() => (redraw(), put())).observe(stage);
  readTones();
  update();
})();
