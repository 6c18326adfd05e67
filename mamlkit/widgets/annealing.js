// Figure of chapter 7: two trajectories of query losses, and what the annealed weights of MAML++ make of them in each epoch.

const TASKS = {
  task_a: { letter: "A", colour: "var(--mk-task-a)", dash: null, aside: -1 },
  task_b: { letter: "B", colour: "var(--mk-task-b)", dash: "7 4", aside: 1 },
};
const WEIGHT_HEIGHT = 62;
const EPOCH_HEIGHT = 110;

// ---- Mathematics -----------------------------------------------------------------------------------------------

// "A", "B", or "" where the two are equal up to rounding.
function better([a, b]) {
  return Math.abs(a - b) < 1e-9 ? "" : a < b ? "A" : "B";
}

// The first epoch in which the order is another than in the epoch before; null where it never changes.
function firstFlip(byEpoch) {
  let before = better(byEpoch[0]);
  for (let e = 1; e < byEpoch.length; e++) {
    const now = better(byEpoch[e]);
    if (now && before && now !== before) return e;
    if (now) before = now;
  }
  return null;
}

// ---- The figure ------------------------------------------------------------------------------------------------

function render({ model, el }) {
  const { start, maxLoss, maxEpoch, floor } = model.get("constants");
  const first = Object.fromEntries(["task_a", "task_b", "epoch", "epochs", "inner_steps"].map((trait) => [trait, model.get(trait)]));
  const helpId = `mk-help-${Math.random().toString(36).slice(2)}`;
  const save = afterRest(() => model.save_changes(), 150);

  const axes = svg("g");
  const marks = svg("g", { "aria-hidden": "true" });
  const handles = svg("g");
  const plot = svg("svg", { class: "mk-plot", role: "group", "aria-label": "Query losses of A and B after each step, and the weight of each step" }, axes, marks, handles);
  const curves = svg("svg", { class: "mk-plot", role: "img", "aria-label": "Weighted losses of A and B in each epoch; the table has the numbers" });
  const sliders = [
    slider(model, "epoch", "epoch e", { min: 0, max: maxEpoch, step: 1, save }),
    slider(model, "epochs", "annealing epochs E", { min: 1, max: 15, step: 1, save }),
    slider(model, "inner_steps", "inner steps K", { min: 1, max: 5, step: 1, save }),
  ];
  const play = player(sliders[0], "play the epochs");
  const reset = restart(model, save, [play], first);
  const instead = (settings) => ({ ...first, ...settings });
  const places = presets(model, save, [play], [
    ["A ends lower", () => instead({ task_a: [...first.task_a.slice(0, -1), Math.max(0, Math.round(100 * (first.task_b.at(-1) - 0.1)) / 100)], inner_steps: 5 })],
    ["flips early", instead({ epochs: 2 })],
    ["ends lucky", instead({ inner_steps: 2 })],
  ]);
  const verdict = html("p", { class: "mk-verdict", style: "font-size: 17px; font-weight: 600; margin: 6px 0" });
  const flip = html("p", { class: "mk-flip" });
  const body = html("tbody");
  const readout = html("div", { class: "mk-tables mk-readout" },
    html("table", {}, html("caption", {}, "Query losses and their weights"),
      tableHead("after step", "weight", "loss of A", "loss of B"), body));
  const status = liveRegion();
  const picture = html("div", { class: "mk-picture" }, plot, curves);
  const root = figureOf("annealing", "annealed weights and which trajectory they prefer", {
    picture, numbers: readout, status,
    does: [
      verdict, flip,
      html("div", { class: "mk-actions" }, play.node, reset, places),
      html("div", { class: "mk-controls" }, ...sliders.map((s) => s.node)),
      html("p", { id: helpId, class: "mk-help" }, "Drag a disc up or down, or select it and press the arrow keys (with Shift for bigger steps, Home to put it back)."),
    ],
    note: ["Both trajectories are invented. Smaller is better. Below the losses stands the weight of each step in this epoch; the lower picture has the weighted losses in all epochs."],
  });

  // Geometry: real pixels, laid out anew for each width.
  const box = { left: 30, top: 8, width: 0, height: 0 };
  const xOf = (k, K) => box.left + 14 + (k / K) * (box.width - 36);
  const yOf = (loss) => box.top + (1 - loss / maxLoss) * box.height;
  const lossOf = (event) => maxLoss * (1 - (event.clientY - plot.getBoundingClientRect().top - box.top) / box.height);
  const weightTop = () => box.top + box.height + 30;
  const aside = (task) => 7 * task.aside; // side by side where two points have the same height

  // One handle for each loss: role slider, drag, arrow keys.
  const points = Object.entries(TASKS).flatMap(([trait, task]) => [0, 1, 2, 3, 4].map((k) => {
    const moveTo = ([loss]) => {
      const value = Math.min(maxLoss, Math.max(0, Math.round(100 * loss) / 100));
      model.set(trait, model.get(trait).map((old, i) => (i === k ? value : old)));
      save();
    };
    const node = dragHandle(
      { "aria-label": `${task.letter}, query loss after step ${k + 1}`, "aria-describedby": helpId,
        "aria-valuemin": 0, "aria-valuemax": maxLoss, "aria-orientation": "vertical" },
      { at: (event) => [lossOf(event)], get: () => [model.get(trait)[k]], set: moveTo, home: [first[trait][k]],
        moves: (event) => upAndDown(event.shiftKey ? 0.5 : 0.1), ways: UPRIGHT, r: 10.5 },
      svg("circle", { class: "mk-target", r: 16 }), svg("circle", { class: "mk-ring", r: 13 }),
      svg("circle", { r: 9, style: `fill: ${task.colour}; stroke: var(--mk-paper); stroke-width: 1.5` }),
      svg("text", { y: 4.5, class: "mk-letter" }, task.letter));
    return { trait, task, k, node };
  }));
  handles.append(...points.map((point) => point.node));

  function layout() {
    const width = picture.clientWidth;
    if (width <= 0) return;
    box.width = width - box.left;
    box.height = width < 500 ? 150 : 210;
    plot.setAttribute("width", width);
    plot.setAttribute("height", weightTop() + WEIGHT_HEIGHT + 8);
    curves.setAttribute("width", width);
    curves.setAttribute("height", box.top + EPOCH_HEIGHT + 22);
    draw();
  }

  const line = (x1, y1, x2, y2, attributes = {}) => svg("line", { x1, y1, x2, y2, stroke: "var(--mk-rule)", ...attributes });
  const polyline = (points, { colour, dash }) =>
    svg("polyline", { points: points.map((p) => p.join(",")).join(" "), fill: "none", stroke: colour, "stroke-width": 2.5, "stroke-dasharray": dash });

  function drawSteps(K, tasks, weights) {
    const right = box.left + box.width;
    axes.replaceChildren(
      ...[0, 1, 2, 3].flatMap((loss) => [line(box.left, yOf(loss), right, yOf(loss)), tickLabel([box.left, yOf(loss)], [-6, 4], loss, "end")]),
      svg("text", { x: box.left + 4, y: box.top + 13, class: "mk-tick" }, "query loss"),
      ...Array.from({ length: K + 1 }, (_, k) => tickLabel([xOf(k, K), yOf(0)], [0, 17], k ? (K > 3 && box.width < 400 ? k : `step ${k}`) : "start", "middle")),
      line(box.left, weightTop() + WEIGHT_HEIGHT, right, weightTop() + WEIGHT_HEIGHT),
      svg("text", { x: box.left + 4, y: weightTop() + 12, class: "mk-tick" }, "weight"),
    );
    const bar = Math.min(34, (0.5 * box.width) / (K + 1));
    marks.replaceChildren(
      ...weights.flatMap((weight, i) => {
        const [x, height] = [xOf(i + 1, K), weight * (WEIGHT_HEIGHT - 18)];
        return [
          svg("rect", { class: "mk-weight", x: x - bar / 2, y: weightTop() + WEIGHT_HEIGHT - height, width: bar, height, fill: "var(--mk-faint)" }),
          svg("text", { x, y: weightTop() + WEIGHT_HEIGHT - height - 5, "text-anchor": "middle" }, format(weight, weight && weight < 0.1 ? 3 : 2, false)),
        ];
      }),
      ...Object.entries(TASKS).map(([trait, task]) => polyline([[xOf(0, K), yOf(start)], ...tasks[trait].map((loss, i) => [xOf(i + 1, K) + aside(task), yOf(loss)])], task)),
      svg("circle", { cx: xOf(0, K), cy: yOf(start), r: 5, fill: "var(--mk-ink)" }),
    );
    for (const { trait, task, k, node } of points) {
      const loss = model.get(trait)[k];
      node.style.display = k < K ? "" : "none";
      if (k < K) node.setAttribute("transform", `translate(${xOf(k + 1, K) + aside(task)} ${yOf(loss)})`);
      node.setAttribute("aria-valuenow", loss);
      node.setAttribute("aria-valuetext", format(loss, 2));
    }
  }

  function drawEpochs(epoch, epochs, byEpoch) {
    const top = Math.max(0.5, Math.ceil(2 * Math.max(...byEpoch.flat())) / 2);
    const x = (e) => box.left + 18 + (e / maxEpoch) * (box.width - 36);
    const y = (loss) => box.top + (1 - loss / top) * EPOCH_HEIGHT;
    const ticks = Array.from({ length: Math.round(2 * top) + 1 }, (_, i) => i / 2).filter((loss) => top <= 1.5 || Number.isInteger(loss));
    curves.replaceChildren(
      ...ticks.flatMap((loss) => [line(box.left, y(loss), box.left + box.width, y(loss)), tickLabel([box.left, y(loss)], [-6, 4], loss, "end")]),
      ...[0, 5, 10, 15, 20].map((e) => tickLabel([x(e), y(0)], [0, 16], e, "middle")),
      svg("text", { x: x(maxEpoch), y: box.top + 13, "text-anchor": "end", class: "mk-tick" }, "weighted loss, epoch by epoch"),
      line(x(epochs), y(0), x(epochs), box.top + 4, { stroke: "var(--mk-faint)", "stroke-dasharray": "2 4", "stroke-width": 1.5 }),
      svg("text", { x: x(epochs) + 4, y: y(0) - 5, class: "mk-tick" }, "E"),
      line(x(epoch), y(0), x(epoch), box.top + 4, { stroke: "var(--mk-ink)", "stroke-width": 1.5 }),
      ...Object.values(TASKS).flatMap((task, i) => [
        polyline(byEpoch.map((losses, e) => [x(e), y(losses[i])]), task),
        svg("circle", { cx: x(epoch), cy: y(byEpoch[epoch][i]), r: 4.5, fill: task.colour }),
        svg("text", { x: x(epoch) + 12 * task.aside, y: y(byEpoch[epoch][i]) + 4.5, "text-anchor": "middle", class: "mk-halo", style: `fill: ${task.colour}` }, task.letter),
      ]),
    );
  }

  const orderOf = (losses, what) => (better(losses) ? `${better(losses)} ${what}` : "A and B are equal");
  function draw() {
    if (!box.width) return;
    const [epoch, epochs, K] = ["epoch", "epochs", "inner_steps"].map((key) => model.get(key));
    const tasks = { task_a: model.get("task_a").slice(0, K), task_b: model.get("task_b").slice(0, K) };
    const byEpoch = Array.from({ length: maxEpoch + 1 }, (_, e) => {
      const weights = annealedWeights(K, e, epochs, floor);
      return Object.values(tasks).map((losses) => weigh(weights, losses));
    });
    const weights = annealedWeights(K, epoch, epochs, floor);
    const weighted = byEpoch[epoch];
    const ends = Object.values(tasks).map((losses) => losses[K - 1]);
    const change = firstFlip(byEpoch);
    sliders.forEach((s) => s.update());
    drawSteps(K, tasks, weights);
    drawEpochs(epoch, epochs, byEpoch);

    const numbers = `A ${format(weighted[0], 3, false)}, B ${format(weighted[1], 3, false)}`;
    verdict.textContent = `Epoch ${epoch}: ${numbers}. ${orderOf(weighted, "is preferred")}.`;
    flip.textContent = `After the last step: ${orderOf(ends, "is lower")}. ${change === null ? "The order is the same in every epoch." : `The order changes in epoch ${change}.`}`;
    body.replaceChildren(
      ...weights.map((weight, i) => tableRow(String(i + 1), [format(weight, 3, false), ...Object.values(tasks).map((losses) => format(losses[i], 2))])),
      tableRow("weighted", ["", ...weighted.map((loss) => format(loss, 3, false))], { class: "mk-now" }),
    );
    const exact = { epoch, epochs, K, a: tasks.task_a, b: tasks.task_b, weights, weighted, byEpoch: byEpoch.flat(), change: change ?? -1 };
    publish(readout, exact);
    status.say(`Epoch ${epoch} of ${epochs}, ${K} step${K > 1 ? "s" : ""}. The last step weighs ${format(weights[K - 1], 2)}. Weighted losses: ${numbers}. ${orderOf(weighted, "is preferred")}.`);
  }

  return mount({ model, el }, root, ["epoch", "epochs", "inner_steps", "task_a", "task_b"], oncePerFrame(draw), layout);
}

export default { render };
