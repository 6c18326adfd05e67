// Figure of chapter 6: a real task of a trained network, the size of the inner steps, and two over the curvature.

const HEIGHT = 190;
const MARGIN = 92; // right of the plot, for the names of the curves
const SCALE_MAX = 4; // of alpha h on the ruler
const NUDGE = 1e-5; // of the difference of gradients that stands for a Hessian-vector product
const LINES = {
  support: { name: "support", colour: "var(--mk-support)", dash: "7 4" },
  line: { name: "whole line", colour: "var(--mk-query)", dash: null },
};
const ZONES = [
  { from: 0, to: 1, words: "walks down" },
  { from: 1, to: 2, words: "jumps across, comes closer" },
  { from: 2, to: SCALE_MAX, words: "jumps farther away" },
];

// ---- Mathematics -----------------------------------------------------------------------------------------------

// The eigenvalue of the support loss's Hessian that is largest in size, by power iteration.
function largestCurvature(p, xs, ys, rounds) {
  let v = Float64Array.from(p, (_, i) => Math.cos(i));
  let value = 0;
  for (let round = 0; round < rounds; round++) {
    const size = Math.hypot(...v);
    v = v.map((x) => x / size);
    const [ahead, behind] = [1, -1].map((sign) => slopeOf(p.map((x, i) => x + sign * NUDGE * v[i]), xs, ys));
    const product = ahead.map((g, i) => (g - behind[i]) / (2 * NUDGE));
    value = product.reduce((sum, x, i) => sum + x * v[i], 0);
    v = product;
  }
  return value;
}

const supportLoss = (p, xs, ys) => {
  const [h1, h2] = [new Float64Array(HIDDEN), new Float64Array(HIDDEN)];
  return xs.reduce((sum, x, n) => sum + (forward(p, x, h1, h2) - ys[n]) ** 2, 0) / xs.length;
};

// ---- The figure ------------------------------------------------------------------------------------------------

function render({ model, el }) {
  const { steps, rounds, least, most } = model.get("constants");
  const start = unpack(model.get("weights"));
  const save = afterRest(() => model.save_changes(), 150);
  const plot = svg("svg", { class: "mk-plot", role: "img", "aria-label": "Support loss and error over the line after each inner step; the table has the numbers" });
  const ruler = svg("svg", { class: "mk-plot", role: "img", "aria-label": "Step size times curvature on a ruler from 0 to 4; the sentence below says where it stands" });
  const sliders = [
    slider(model, "alpha", "step size α", { min: least, max: most, step: 0.001, digits: 3, save }),
    slider(model, "amplitude", "amplitude", { min: 0.1, max: 5, step: 0.1, digits: 1, save }),
    slider(model, "phase", "phase", { min: 0, max: 3.14, step: 0.02, digits: 2, save }),
  ];
  // Step sizes by what a parabola of this task's curvature does: α h in the middle of a zone of the ruler.
  const at = (product) => () => ({ alpha: Math.min(most, Math.max(least, Math.round((1000 * product) / solve().curvature) / 1000)) });
  const places = presets(model, save, [], [
    ["α = 0.010", { alpha: 0.01 }], ["walks down", at(0.5)], ["jumps across", at(1.5)], ["runs away", at(2.5)]]);
  const verdict = html("p", { style: "font-size: 16px; font-weight: 600; margin: 6px 0" });
  const body = html("tbody");
  const readout = html("div", { class: "mk-readout" },
    html("table", {}, html("caption", {}, "Mean squared error"), tableHead("inner steps", "support", "whole line"), body));
  const picture = html("div", { class: "mk-picture" }, plot, ruler);
  const status = liveRegion();
  const root = figureOf("step-size", "the step size and two over the curvature", {
    picture, numbers: readout, status, beside: true,
    does: [
      verdict,
      html("div", { class: "mk-actions" }, newPoints(model, save), places),
      html("div", { class: "mk-controls" }, ...sliders.map((s) => s.node)),
      html("p", { class: "mk-help" }, "Move the step size. The ruler shows α times the largest curvature h of this task at the start."),
    ],
    note: [`The start is a trained network. Your browser takes ${steps} inner steps and finds h by ${rounds} rounds of power iteration. Losses above the plot leave it at the top.`],
  });

  const box = { left: 34, top: 8, width: 0 };
  function layout() {
    const width = picture.clientWidth;
    if (width <= 0) return;
    box.width = width - box.left - MARGIN;
    plot.setAttribute("width", width);
    plot.setAttribute("height", box.top + HEIGHT + 36);
    ruler.setAttribute("width", width);
    ruler.setAttribute("height", 62);
    draw();
  }

  let solved = { key: null }; // the task and its curvature, kept while just the step size changes
  function solve() {
    const [amplitude, phase, xs] = ["amplitude", "phase", "points"].map((trait) => model.get(trait));
    const key = String([amplitude, phase, ...xs]);
    if (solved.key !== key) {
      const wave = (x) => amplitude * Math.sin(x - phase);
      const [ys, truth] = [xs.map(wave), GRID.map(wave)];
      solved = { key, amplitude, phase, xs, ys, truth, curvature: largestCurvature(start, xs, ys, rounds) };
    }
    return solved;
  }

  const rule = (x1, y1, x2, y2, attributes = {}) => svg("line", { x1, y1, x2, y2, stroke: "var(--mk-rule)", ...attributes });

  function drawLosses(losses) {
    const top = Math.max(1, Math.ceil(1.4 * Math.max(losses.line[0], losses.support[0])));
    const x = (k) => box.left + 6 + (k / steps) * (box.width - 12);
    const y = (loss) => box.top + (1 - Math.min(loss, 1.5 * top) / top) * HEIGHT;
    plot.replaceChildren(
      ...[0, top / 2, top].flatMap((loss) => [rule(box.left, y(loss), box.left + box.width, y(loss)), tickLabel([box.left, y(loss)], [-5, 4], loss, "end")]),
      ...Array.from({ length: steps + 1 }, (_, k) => tickLabel([x(k), y(0)], [0, 16], k, "middle")),
      tickLabel([box.left + box.width, y(0)], [0, 32], "inner steps", "end"),
      ...Object.entries(LINES).flatMap(([name, { colour, dash }]) => [
        svg("polyline", { class: `mk-loss-${name}`, points: losses[name].flatMap((loss, k) => (Number.isNaN(loss) ? [] : [`${x(k).toFixed(1)},${y(loss).toFixed(1)}`])).join(" "), fill: "none", stroke: colour, "stroke-width": 2.5, "stroke-dasharray": dash }),
        ...losses[name].map((loss, k) => (loss <= top ? svg("circle", { cx: x(k), cy: y(loss), r: 4, fill: colour }) : "")),
      ]),
      ...endLabels(box.left + box.width + 4, box.top + 4, y(0) - 4, Object.entries(LINES).map(([name, { name: words, colour }]) => {
        const end = losses[name].at(-1);
        return { words, colour, y: Number.isFinite(end) ? y(end) : 0 };
      })),
    );
  }

  function drawRuler(product) {
    const x = (value) => box.left + (Math.min(Math.max(value, 0), SCALE_MAX) / SCALE_MAX) * box.width;
    const place = x(product);
    ruler.replaceChildren(
      ...ZONES.map(({ from, to }, i) => svg("rect", { x: x(from), y: 26, width: x(to) - x(from), height: 12, fill: ["var(--mk-support)", "var(--mk-inner)", "var(--mk-task-a)"][i], opacity: 0.75 })),
      ...[0, 1, 2, 3, 4].map((value) => tickLabel([x(value), 38], [0, 16], value, "middle")),
      svg("path", { class: "mk-needle", d: `M${place} 16V42`, stroke: "var(--mk-ink)", "stroke-width": 3 }),
      tickLabel([Math.min(Math.max(place, box.left + 30), box.left + box.width - 30), 12], [0, 0], `αh = ${format(product, 2)}`, "middle"),
    );
  }

  function draw() {
    if (!box.width) return;
    const task = solve();
    const alpha = model.get("alpha");
    const losses = { support: [], line: adaptStart(start, task.xs, task.ys, task.truth, { steps, alpha }).mse };
    for (let k = 0, p = start; k <= steps; k++, p = innerStep(p, task.xs, task.ys, alpha)) losses.support.push(supportLoss(p, task.xs, task.ys));
    const product = alpha * task.curvature;
    sliders.forEach((s) => s.update());
    drawLosses(losses);
    drawRuler(product);
    const zone = ZONES.find(({ from, to }) => product >= from && (product < to || to === SCALE_MAX)) ?? ZONES[0];
    const sentence = `h = ${format(task.curvature, 0)}, so 2/h = ${format(2 / task.curvature, 4)}. With α = ${format(alpha, 3)}, a parabola of this curvature ${zone.words}.`;
    verdict.textContent = sentence;
    body.replaceChildren(...losses.line.map((error, k) => tableRow(String(k), [format(losses.support[k], 2), format(error, 2)])));
    publish(readout, { amplitude: task.amplitude, phase: task.phase, points: task.xs, alpha, curvature: task.curvature, ...losses });
    status.say(`${sentence} Error over the line: at the start ${format(losses.line[0], 2)}, after ${steps} steps ${format(losses.line[steps], 2)}.`);
  }

  return mount({ model, el }, root, ["alpha", "amplitude", "phase", "points"], oncePerFrame(draw), layout);
}

export default { render };
