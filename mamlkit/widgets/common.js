// Helpers that every live figure shares; mamlkit/widgets/_assets.py puts this text before the figure's own module.

// Element makers: html("p", { class: "x", onclick: f }, "text", child) and the same for SVG.
const maker = (create) => (tag, attributes = {}, ...children) => {
  const node = create(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (typeof value === "function") node.addEventListener(name.slice(2), value);
    else if (value !== null && value !== false) node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...children);
  return node;
};
const html = maker((tag) => document.createElement(tag));
const svg = maker((tag) => document.createElementNS("http://www.w3.org/2000/svg", tag));

// Three decimals, two significant digits for small numbers (unless told not to), a real minus sign.
function format(x, digits = 3, adaptive = digits > 2) {
  if (!Number.isFinite(x)) return "–";
  const small = adaptive && x !== 0 && Math.abs(x) < 0.01;
  return (small ? x.toPrecision(2) : x.toFixed(digits)).replace("-", "−");
}

// Level lines of f on a grid, as one SVG path in data coordinates. Each cell is cut into two triangles: a triangle
// holds at most one segment of a level, so there is no ambiguous case.
function contourPath(f, [x0, x1], [y0, y1], levels, columns = 72, rows = 58) {
  const xs = Array.from({ length: columns + 1 }, (_, i) => x0 + ((x1 - x0) * i) / columns);
  const ys = Array.from({ length: rows + 1 }, (_, j) => y0 + ((y1 - y0) * j) / rows);
  const points = ys.map((y) => xs.map((x) => [x, y, f([x, y])]));
  if (typeof levels === "function") levels = levels(points.flat().map((p) => p[2]));
  const loose = levels.map(() => new Map()); // for each level: end of a line -> that line, both ways
  const lines = new Set();
  const cut = (triangle) => {
    const [low, high] = [Math.min(...triangle.map((p) => p[2])), Math.max(...triangle.map((p) => p[2]))];
    levels.forEach((level, n) => {
      if (level <= low || level > high) return;
      const ends = [];
      for (let i = 0; i < 3; i++) {
        // An edge always runs from its lower end, so that both its triangles find the very same point.
        const [p, q] = [triangle[i], triangle[(i + 1) % 3]].sort((v, w) => v[2] - w[2]);
        if (p[2] < level === q[2] < level) continue;
        const t = (level - p[2]) / (q[2] - p[2]);
        ends.push(`${(p[0] + t * (q[0] - p[0])).toFixed(4)} ${(p[1] + t * (q[1] - p[1])).toFixed(4)}`);
      }
      if (ends.length && ends[0] !== ends[1]) join(loose[n], ends);
    });
  };
  // Join segments end to end: unbroken lines take dashes well.
  const join = (open, [start, end]) => {
    let line = [start, end];
    for (const tip of [start, end]) {
      const other = open.get(tip);
      open.delete(tip);
      if (!other || line[0] === line.at(-1)) continue; // nothing to join, or just closed
      lines.delete(other);
      const [head, tail] = [tip === other.at(-1) ? other : other.toReversed(), tip === line[0] ? line : line.toReversed()];
      line = [...head, ...tail.slice(1)];
    }
    lines.add(line);
    if (line[0] !== line.at(-1)) open.set(line[0], line).set(line.at(-1), line);
  };
  for (let j = 0; j < rows; j++) {
    for (let i = 0; i < columns; i++) {
      const [a, b, c, d] = [points[j][i], points[j][i + 1], points[j + 1][i + 1], points[j + 1][i]];
      cut([a, b, c]);
      cut([a, c, d]);
    }
  }
  return [...lines].map((line) => `M${line.join("L")}`).join("");
}

// Call f once, when calls have ceased for `wait` milliseconds.
function afterRest(f, wait) {
  let timer;
  return () => {
    clearTimeout(timer);
    timer = setTimeout(f, wait);
  };
}

// Call f at most once a frame.
function oncePerFrame(f) {
  let frame = null;
  return () => {
    frame ??= requestAnimationFrame(() => {
      frame = null;
      f();
    });
  };
}

// A labelled range input tied to a number of the model.
function slider(model, trait, label, { min, max, step, digits = 0, save }) {
  const output = html("output");
  const get = () => model.get(trait);
  const set = (value) => {
    model.set(trait, value);
    save();
  };
  const input = html("input", {
    type: "range", min, max, step, "aria-label": label, // the <output> takes the name of the label around both
    oninput: () => set(Number(input.value)),
  });
  const update = () => {
    input.value = get();
    output.textContent = format(get(), digits);
  };
  update();
  return { node: html("label", { class: "mk-slider" }, html("span", {}, label, " = ", output), input), input, update, get, set, min, max, step };
}

// A button that moves a slider on by itself, one stride a beat, and stops at its end; from there it begins anew. A hand on the
// slider stops it. A reader who has asked for less motion gets one stride a press.
const BEAT = 700; // milliseconds

function player(slider, words = "play the steps", stride = slider.step) {
  const still = matchMedia("(prefers-reduced-motion: reduce)").matches;
  const icon = svg("path", { fill: "currentColor" });
  const text = html("span");
  let timer = null;
  const show = (playing) => {
    icon.setAttribute("d", playing ? "M1 1H4V11H1ZM7 1H10V11H7Z" : "M1 0L11 6L1 12Z");
    text.textContent = playing ? "pause" : still ? (stride > slider.step ? `${stride} steps on` : "one step on") : words;
  };
  const pause = () => {
    clearInterval(timer);
    timer = null;
    show(false);
  };
  const stepOn = () => {
    if (node.isConnected) slider.set(Math.min(slider.max, slider.get() + stride));
    if (!node.isConnected || slider.get() >= slider.max) pause();
  };
  const press = () => {
    if (timer !== null) return pause();
    if (slider.get() >= slider.max) slider.set(slider.min);
    else if (still) stepOn();
    if (still) return;
    timer = setInterval(stepOn, BEAT);
    show(true);
  };
  const node = html("button", { type: "button", class: "mk-play", onclick: press }, svg("svg", { width: 12, height: 12, "aria-hidden": "true" }, icon), text);
  slider.input.addEventListener("input", pause);
  show(false);
  return { node, pause };
}

// Buttons that go where the text says, named after what is seen there: each has words and the traits' values, or a function that
// answers them. They stop a play.
function goTo(model, save, players, settings) {
  players.forEach((play) => play.pause());
  const values = typeof settings === "function" ? settings() : settings;
  for (const [trait, value] of Object.entries(values)) model.set(trait, value);
  save();
}

function presets(model, save, players, places) {
  return places.length === 0 ? "" : html("div", { class: "mk-presets", role: "group", "aria-label": "Settings to go to" },
    ...places.map(([words, settings]) => html("button", { type: "button", onclick: () => goTo(model, save, players, settings) }, words)));
}

// A button that puts everything back to the first settings.
const restart = (model, save, players, first) => html("button", { type: "button", onclick: () => goTo(model, save, players, first) }, "start again");

// The parts of a figure, in the same order everywhere: the picture, what a reader sees and does, and the numbers with what the
// signs mean. The last are folded where there is little room, and stand beside the picture if `beside` says so and there is room.
function figureOf(name, label, { picture, does, numbers, note, status, beside = false }) {
  const fold = html("details", { class: "mk-fold" }, html("summary", {}, "The numbers and the signs"), numbers, html("p", { class: "mk-note" }, ...note));
  return html("div", { class: `mk-fig mk-${name}${beside ? " mk-beside" : ""}`, role: "group", "aria-label": `Live figure: ${label}` },
    picture, html("div", { class: "mk-does" }, ...does), fold, status.node);
}

// A polite live region, hidden from sight: it speaks when the reader pauses, not at every pixel of a drag.
function liveRegion() {
  const node = html("p", { class: "mk-hidden", "aria-live": "polite" });
  let sentence = "";
  const speak = afterRest(() => (node.textContent = sentence), 500);
  return {
    node,
    say: (text) => {
      sentence = text;
      speak();
    },
  };
}

// Redraw when one of the traits changes, whoever changed it; the answer undoes it.
function watch(model, traits, redraw) {
  const names = traits.map((trait) => `change:${trait}`);
  names.forEach((name) => model.on(name, redraw));
  return () => names.forEach((name) => model.off(name, redraw));
}

// Put a figure on its page. It is drawn anew when one of the traits changes, and laid out anew when it has another width; the
// answer closes it. A figure that needs no width has no layout.
const WIDE = 560; // pixels of a figure that has room

function mount({ model, el }, root, traits, redraw, layout = null) {
  el.append(root);
  const unwatch = watch(model, traits, redraw);
  if (layout === null) {
    redraw();
    return unwatch;
  }
  let seen = false; // a fold is opened once; then it is the reader's
  const fit = () => {
    const wide = root.clientWidth >= WIDE;
    root.classList.toggle("mk-wide", wide);
    if (wide && !seen) root.querySelectorAll(".mk-fold").forEach((fold) => (fold.open = true));
    seen ||= root.clientWidth > 0;
    layout();
  };
  const observer = new ResizeObserver(fit);
  observer.observe(root);
  fit();
  return () => {
    observer.disconnect();
    unwatch();
  };
}

// A handle that is dragged, or moved with the keys of `moves(event)`; Home puts it back. Places are lists of numbers: `at(event)`
// is under the pointer, `get()` is the handle's, `set(place)` moves it. Small arrows at distance r say where it can go: by them,
// and by them alone, a reader knows a handle.
const SIDEWAYS = [0, 180];
const UPRIGHT = [90, 270];

function dragHandle(attributes, { at, get, set, moves, home, ways = UPRIGHT, r = 10 }, ...children) {
  const arrows = ways.map((angle) => svg("path", { d: `M${r + 5.5} 0L${r} -4.5V4.5Z`, transform: `rotate(${angle})` }));
  const node = svg("g", { class: "mk-handle", role: "slider", tabindex: 0, ...attributes }, ...children, svg("g", { class: "mk-grip" }, ...arrows));
  const plus = (place, by) => place.map((value, i) => value + by[i]);
  let grip = []; // from the pointer to the handle that it took, so that it does not jump
  node.addEventListener("pointerdown", (event) => {
    const taken = at(event);
    grip = get().map((value, i) => value - taken[i]);
    node.setPointerCapture(event.pointerId);
    node.focus({ preventScroll: true });
    event.preventDefault();
  });
  node.addEventListener("pointermove", (event) => {
    if (node.hasPointerCapture(event.pointerId)) set(plus(at(event), grip));
  });
  node.addEventListener("touchstart", (event) => event.preventDefault(), { passive: false });
  node.addEventListener("keydown", (event) => {
    const by = moves(event)[event.key];
    if (event.key === "Home") set(home);
    else if (by) set(plus(get(), by));
    else return;
    event.preventDefault();
  });
  return node;
}

// A point of the plane that stays where it is: a dot and its name, nothing to take hold of.
const fixedPoint = ([x, y], name) => svg("g", {},
  svg("circle", { cx: x, cy: y, r: 5.5, fill: "var(--mk-ink)", stroke: "var(--mk-paper)", "stroke-width": 1.5 }),
  svg("text", { x: x - 9, y: y - 8, "text-anchor": "end", class: "mk-halo", style: "font-size: 16px; font-style: italic" }, name));

// Names of curves at their right ends, in the curves' colours, moved apart where they would cover each other. An entry has words,
// y and colour; all stay between top and bottom.
function endLabels(x, top, bottom, entries) {
  const gap = 15;
  const placed = entries.map((entry) => ({ ...entry, y: Math.min(bottom, Math.max(top, entry.y)) })).sort((a, b) => a.y - b.y);
  placed.forEach((entry, i) => (entry.y = i ? Math.max(entry.y, placed[i - 1].y + gap) : entry.y));
  placed.reduceRight((limit, entry) => (entry.y = Math.min(entry.y, limit)) - gap, bottom);
  return placed.map(({ words, y, colour }) => svg("text", { class: "mk-end", x, y: y + 4, style: `fill: ${colour}` }, words));
}

// Keys of a handle that goes up and down only.
const upAndDown = (step) => ({ ArrowUp: [step], ArrowRight: [step], ArrowDown: [-step], ArrowLeft: [-step] });

// A legend, an entry for each list of nodes and texts; a sample of what is drawn, and one of a line.
const legendOf = (...entries) => html("div", { class: "mk-legend" }, ...entries.map((parts) => html("span", {}, ...parts)));
const sample = (width, ...shapes) => svg("svg", { width, height: 14, "aria-hidden": "true" }, ...shapes);
const lineSample = (colour, { width, dash }, long = 36) =>
  sample(long, svg("line", { x1: 1, y1: 7, x2: long - 1, y2: 7, stroke: colour, "stroke-width": width, "stroke-dasharray": dash }));

// Leave numbers in full precision for whoever checks the figure against Python.
function publish(readout, exact) {
  for (const [key, value] of Object.entries(exact)) readout.dataset[key] = String(value);
}

// A tick label at a place in pixels, moved by an offset.
function tickLabel([x, y], [dx, dy], value, anchor) {
  return svg("text", { x: x + dx, y: y + dy, "text-anchor": anchor, class: "mk-tick" }, String(value).replace("-", "−"));
}

// Column names of a table, and one of its lines, whose first cell names it.
const tableHead = (...names) => html("thead", {}, html("tr", {}, ...names.map((name) => html("th", { scope: "col" }, name))));
const tableRow = (name, cells, attributes = {}) =>
  html("tr", attributes, html("th", { scope: "row" }, name), ...cells.map((cell) => html("td", {}, cell)));

// The weights of the K query losses in an epoch of MAML++, as AnnealedMultiStep(epochs).weights(K, epoch); and a weighted sum.
function annealedWeights(K, epoch, epochs, floor) {
  if (epoch >= epochs) return Array.from({ length: K }, (_, k) => (k === K - 1 ? 1 : 0));
  const early = Math.max(1 / K - epoch / (K * epochs), floor / K);
  const last = Math.min(1 / K + (epoch * (K - 1)) / (K * epochs), 1 - ((K - 1) * floor) / K);
  return Array.from({ length: K }, (_, k) => (k === K - 1 ? last : early));
}

const weigh = (weights, losses) => weights.reduce((sum, w, k) => sum + w * losses[k], 0);

// The directions of three methods, as every figure draws them.
const METHODS = {
  maml: { letter: "M", name: "MAML", width: 5.5, dash: null },
  fomaml: { letter: "F", name: "FOMAML", width: 3.2, dash: "9 4" },
  reptile: { letter: "R", name: "Reptile", width: 3.2, dash: "10 3 2.5 3" },
};

// An arrow from one pixel to another, with its head, in the method's colour and dash.
function methodArrow(method, [x0, y0], [x1, y1]) {
  const { width, dash } = METHODS[method];
  const colour = `var(--mk-${method})`;
  const angle = (Math.atan2(y1 - y0, x1 - x0) * 180) / Math.PI;
  const size = 6 + width;
  const reach = Math.max(0, Math.hypot(x1 - x0, y1 - y0) - size) / (Math.hypot(x1 - x0, y1 - y0) || 1);
  return svg("g", { class: `mk-arrow-${method}` },
    svg("line", { x1: x0, y1: y0, x2: x0 + reach * (x1 - x0), y2: y0 + reach * (y1 - y0), stroke: colour, "stroke-width": width, "stroke-dasharray": dash }),
    svg("path", { d: `M0 0L${-size} ${-size * 0.6}L${-size} ${size * 0.6}Z`, fill: colour, transform: `translate(${x1} ${y1}) rotate(${angle})` }));
}

// The same arrow for a legend; the method's letter in its colour, for the drawing (at a pixel) and for a table.
const methodSample = (method) => sample(40, methodArrow(method, [1, 7], [39, 7]));
const methodLetter = (method, x, y) =>
  svg("text", { x, y: y + 5, "text-anchor": "middle", class: "mk-halo", style: `fill: var(--mk-${method}); font-size: 14px` }, METHODS[method].letter);
const methodName = (method) => html("span", {}, html("b", { style: `color: var(--mk-${method})` }, METHODS[method].letter), ` ${METHODS[method].name}`);

// A plus (or, turned, a times) that marks a minimum.
function cross([x, y], r, turned, colour) {
  const d = turned ? `M${-r} ${-r}L${r} ${r}M${-r} ${r}L${r} ${-r}` : `M${-r} 0L${r} 0M0 ${-r}L0 ${r}`;
  return svg("path", { d, transform: `translate(${x} ${y})`, stroke: colour, "stroke-width": 2.5, fill: "none" });
}

// Degrees between two vectors of the plane; NaN where one of them has no direction.
function angleBetween(u, v) {
  if (Math.hypot(...u) < 1e-12 || Math.hypot(...v) < 1e-12) return NaN;
  return (Math.atan2(Math.abs(u[0] * v[1] - u[1] * v[0]), u[0] * v[0] + u[1] * v[1]) * 180) / Math.PI;
}

// A plane of two parameters, in real pixels that are laid out anew for each width: px takes a point to its pixel, frame
// holds the border and the ticks, data (put what is drawn in parameters into it) is scaled to fit.
function parameterPlane([x0, x1], [y0, y1], xTicks, yTicks) {
  const box = { left: 26, top: 6, width: 0, height: 0 };
  const [frame, data] = [svg("g"), svg("g")];
  const px = ([x, y]) => [box.left + ((x - x0) / (x1 - x0)) * box.width, box.top + ((y1 - y) / (y1 - y0)) * box.height];
  // Fit the plot to the width its figure leaves; false where the figure is not shown.
  const fit = (plot, width) => {
    if (width <= 0) return false;
    box.width = width - box.left - 6;
    box.height = box.width * ((y1 - y0) / (x1 - x0));
    plot.setAttribute("width", width);
    plot.setAttribute("height", box.height + box.top + 24);
    frame.replaceChildren(
      svg("rect", { x: box.left, y: box.top, width: box.width, height: box.height, fill: "none", stroke: "var(--mk-rule)" }),
      ...xTicks.map((x) => tickLabel(px([x, y0]), [0, 16], x, "middle")),
      ...yTicks.map((y) => tickLabel(px([x0, y]), [-6, 4], y, "end")),
      svg("text", { x: box.left + box.width - 2, y: box.top + box.height + 16, "text-anchor": "end", class: "mk-tick" }, "θ₁"),
      svg("text", { x: 2, y: box.top + 12, class: "mk-tick" }, "θ₂"),
    );
    const [ox, oy] = px([0, 0]);
    data.setAttribute("transform", `translate(${ox} ${oy}) scale(${box.width / (x1 - x0)} ${-box.height / (y1 - y0)})`);
    return true;
  };
  return { box, frame, data, px, fit };
}
