// Figure of chapter 1: one sinusoid, three starts. The network is adapted here, in the browser, by back-propagation.

const X_RANGE = [-5, 5];
const Y_RANGE = [-5.6, 5.6];
const GRID = Array.from({ length: 201 }, (_, i) => -5 + i / 20);
const STEPS = 10;
const ALPHA = 0.01;
const HIDDEN = 40;
const STARTS = {
  maml: { name: "MAML", width: 3.5, dash: null },
  pretrained: { name: "pretrained", width: 2.8, dash: "9 4" },
  scratch: { name: "scratch", width: 2.8, dash: "2 4" },
};

// ---- The network: 1-40-40-1, ReLU --------------------------------------------------------------------------------

// Parameters lie one after the other in one array: weight and bias of each layer; here is where each begins.
const W1 = 0;
const B1 = W1 + HIDDEN;
const W2 = B1 + HIDDEN;
const B2 = W2 + HIDDEN * HIDDEN;
const W3 = B2 + HIDDEN;
const B3 = W3 + HIDDEN;

function unpack(base64) {
  const bytes = Uint8Array.from(atob(base64), (char) => char.charCodeAt(0));
  const view = new DataView(bytes.buffer);
  return Float64Array.from({ length: bytes.length / 4 }, (_, i) => view.getFloat32(4 * i, true));
}

// The output at x; the two hidden layers are left in h1 and h2.
function forward(p, x, h1, h2) {
  for (let i = 0; i < HIDDEN; i++) h1[i] = Math.max(0, p[W1 + i] * x + p[B1 + i]);
  let output = p[B3];
  for (let j = 0; j < HIDDEN; j++) {
    let sum = p[B2 + j];
    for (let i = 0; i < HIDDEN; i++) sum += p[W2 + j * HIDDEN + i] * h1[i];
    h2[j] = Math.max(0, sum);
    output += p[W3 + j] * h2[j];
  }
  return output;
}

// One step of gradient descent on the mean squared error of the support points.
function innerStep(p, xs, ys) {
  const gradient = new Float64Array(p.length);
  const [h1, h2] = [new Float64Array(HIDDEN), new Float64Array(HIDDEN)];
  xs.forEach((x, n) => {
    const error = (2 / xs.length) * (forward(p, x, h1, h2) - ys[n]); // d loss / d output
    const back = new Float64Array(HIDDEN); // d loss / d h1
    gradient[B3] += error;
    for (let j = 0; j < HIDDEN; j++) {
      gradient[W3 + j] += error * h2[j];
      if (h2[j] <= 0) continue;
      const delta = error * p[W3 + j];
      gradient[B2 + j] += delta;
      for (let i = 0; i < HIDDEN; i++) {
        gradient[W2 + j * HIDDEN + i] += delta * h1[i];
        back[i] += delta * p[W2 + j * HIDDEN + i];
      }
    }
    for (let i = 0; i < HIDDEN; i++) {
      if (h1[i] <= 0) continue;
      gradient[W1 + i] += back[i] * x;
      gradient[B1 + i] += back[i];
    }
  });
  return p.map((value, i) => value - ALPHA * gradient[i]);
}

// Outputs on the grid and their mean squared error, after 0, 1, ..., 10 steps.
function adaptStart(start, xs, ys, truth) {
  const [h1, h2] = [new Float64Array(HIDDEN), new Float64Array(HIDDEN)];
  const curves = [];
  let p = start;
  for (let k = 0; k <= STEPS; k++) {
    curves.push(GRID.map((x) => forward(p, x, h1, h2)));
    p = innerStep(p, xs, ys);
  }
  const mse = curves.map((curve) => curve.reduce((sum, y, i) => sum + (y - truth[i]) ** 2, 0) / GRID.length);
  return { curves, mse };
}

// ---- The figure ------------------------------------------------------------------------------------------------

function render({ model, el }) {
  const starts = Object.fromEntries(Object.entries(model.get("weights")).map(([name, text]) => [name, unpack(text)]));
  const save = afterRest(() => model.save_changes(), 150);
  const clipId = `mk-clip-${Math.random().toString(36).slice(2)}`;

  const axes = svg("g");
  const marks = svg("g");
  const clip = svg("rect");
  const plot = svg("svg", { class: "mk-plot", role: "img", "aria-label": "The sinusoid, its support points and three adapted curves; the table has the numbers" },
    svg("defs", {}, svg("clipPath", { id: clipId }, clip)), axes, marks);
  const plotBox = html("div", { class: "mk-grow" }, plot);
  const sliders = [
    slider(model, "amplitude", "amplitude", { min: 0.1, max: 5, step: 0.1, digits: 1, save }),
    slider(model, "phase", "phase", { min: 0, max: 3.14, step: 0.02, digits: 2, save }),
    slider(model, "shots", "support points", { min: 1, max: 20, step: 1, save }),
    slider(model, "inner_steps", "inner steps", { min: 0, max: STEPS, step: 1, save }),
  ];
  const newPoints = html("button", {
    type: "button",
    onclick: () => {
      model.set("points", model.get("points").map(() => Math.round((Math.random() * 10 - 5) * 1000) / 1000));
      save();
    },
  }, "new points");

  const point = sample(14, svg("circle", { cx: 7, cy: 7, r: 5, fill: "var(--mk-support)", stroke: "var(--mk-paper)" }));
  const legend = legendOf(
    ...Object.entries(STARTS).map(([name, style]) => [lineSample(`var(--mk-${name})`, style), ` ${style.name}`]),
    [lineSample("var(--mk-ink)", { width: 1.5, dash: null }), " the sinusoid"],
    [point, " support points"]);

  const body = html("tbody");
  const table = html("table", {},
    html("caption", {}, "Mean squared error"),
    tableHead("steps", ...Object.values(STARTS).map((s) => s.name)),
    body);
  const readout = html("div", { class: "mk-readout" }, table);
  const status = liveRegion();
  const root = html("div", { class: "mk-fig mk-sinusoids", role: "group", "aria-label": "Live figure: one sinusoid, three starts" },
    html("p", {}, "Choose a sinusoid and its support points, then change the number of inner steps and see how far each start comes."),
    html("div", { class: "mk-controls" }, ...sliders.map((s) => s.node), newPoints),
    legend,
    html("div", { class: "mk-beside" }, plotBox, readout),
    html("p", { class: "mk-note" }, `Each start takes the same steps of gradient descent, of size ${ALPHA}, on the support points. The error is the mean over the whole line from −5 to 5.`),
    status.node);

  const box = { left: 24, top: 6, width: 0, height: 0 };
  const px = (x, y) => [
    box.left + ((x - X_RANGE[0]) / (X_RANGE[1] - X_RANGE[0])) * box.width,
    box.top + ((Y_RANGE[1] - y) / (Y_RANGE[1] - Y_RANGE[0])) * box.height,
  ];
  function layout() {
    const width = plotBox.clientWidth;
    if (width <= 0) return;
    box.width = width - box.left - 4;
    box.height = Math.max(220, 0.82 * box.width);
    plot.setAttribute("width", width);
    plot.setAttribute("height", box.height + box.top + 22);
    const area = { x: box.left, y: box.top, width: box.width, height: box.height };
    for (const [name, value] of Object.entries(area)) clip.setAttribute(name, value);
    const zero = px(0, 0)[1];
    axes.replaceChildren(
      svg("rect", { ...area, fill: "none", stroke: "var(--mk-rule)" }),
      svg("line", { x1: box.left, y1: zero, x2: box.left + box.width, y2: zero, stroke: "var(--mk-rule)" }),
      ...[-4, -2, 0, 2, 4].map((x) => tickLabel(px(x, Y_RANGE[0]), [0, 16], x, "middle")),
      ...[-4, -2, 0, 2, 4].map((y) => tickLabel(px(X_RANGE[0], y), [-5, 4], y, "end")),
      svg("text", { x: box.left + box.width - 2, y: box.top + box.height + 16, "text-anchor": "end", class: "mk-tick" }, "x"),
    );
    draw();
  }

  // Adapting depends on the task only: kept while just the number of steps to show changes.
  let solved = { key: null };
  function solve() {
    const [amplitude, phase] = [model.get("amplitude"), model.get("phase")];
    const xs = model.get("points").slice(0, model.get("shots"));
    const key = String([amplitude, phase, ...xs]);
    if (solved.key !== key) {
      const wave = (x) => amplitude * Math.sin(x - phase);
      const [ys, truth] = [xs.map(wave), GRID.map(wave)];
      solved = { key, amplitude, phase, xs, ys, truth };
      for (const name of Object.keys(STARTS)) solved[name] = adaptStart(starts[name], xs, ys, truth);
    }
    return solved;
  }

  function line(ys, attributes) {
    const points = ys.map((y, i) => px(GRID[i], y).map((v) => v.toFixed(1)).join(",")).join(" ");
    return svg("polyline", { points, fill: "none", "stroke-linejoin": "round", ...attributes });
  }

  function draw() {
    if (!box.width) return;
    const task = solve();
    const steps = model.get("inner_steps");
    sliders.forEach((s) => s.update());
    marks.replaceChildren(
      svg("g", { "clip-path": `url(#${clipId})` },
        line(task.truth, { stroke: "var(--mk-ink)", "stroke-width": 1.5 }),
        ...Object.entries(STARTS).reverse().map(([name, { width, dash }]) =>
          line(task[name].curves[steps], { class: `mk-curve-${name}`, stroke: `var(--mk-${name})`, "stroke-width": width, "stroke-dasharray": dash }))),
      ...task.xs.map((x, n) => {
        const [cx, cy] = px(x, task.ys[n]);
        return svg("circle", { class: "mk-point", cx, cy, r: 5, fill: "var(--mk-support)", stroke: "var(--mk-paper)", "stroke-width": 1.5 });
      }),
    );
    body.replaceChildren(...task.maml.mse.map((_, k) => html("tr", k === steps ? { class: "mk-now" } : {},
      html("th", { scope: "row" }, k === steps ? `${k} (drawn)` : String(k)),
      ...Object.keys(STARTS).map((name) => html("td", {}, format(task[name].mse[k], 2))))));
    const exact = { amplitude: task.amplitude, phase: task.phase, points: task.xs, steps };
    for (const name of Object.keys(STARTS)) exact[name] = task[name].mse;
    publish(readout, exact);
    status.say(`Amplitude ${format(task.amplitude, 1)}, phase ${format(task.phase, 2)}, ${task.xs.length} support points, ${steps} inner steps. Mean squared error: ` +
      `${Object.entries(STARTS).map(([name, style]) => `${style.name} ${format(task[name].mse[steps], 2)}`).join(", ")}.`);
  }

  return mount({ model, el }, root, ["amplitude", "phase", "shots", "inner_steps", "points"], oncePerFrame(draw), layout, plotBox);
}

export default { render };
