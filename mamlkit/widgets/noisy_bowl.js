// Figure of chapter 10: gradient descent with noise in a round bowl, at a constant rate and along a cosine.

const RUNS = {
  constant: { colour: "var(--mk-maml)", dash: "6 3" },
  cosine: { colour: "var(--mk-mamlpp)", dash: null },
};
const VIEW = { x: [-1.4, 2.7], y: [-1.3, 2.2] }; // of the bowl, at least
const DECADES = [0.03, 5]; // of the distance
const RINGS = [0.5, 1, 1.5, 2, 2.5, 3, 3.5];
const [ROW, DISTANCE] = [150, 170]; // heights of the two rows of pictures
const MARGIN = 66; // right of the distances, for the names of the curves
const STRIDE = 15; // steps that the play takes at once

// ---- Mathematics -----------------------------------------------------------------------------------------------

// Standard normal numbers in pairs, by mulberry32 and Box and Muller's transform: the same as in Python.
function normalNumbers(seed, pairs) {
  let state = seed | 0;
  const uniform = () => {
    state = (state + 0x6d2b79f5) | 0;
    let bits = Math.imul(state ^ (state >>> 15), state | 1);
    bits ^= bits + Math.imul(bits ^ (bits >>> 7), bits | 61);
    return (((bits ^ (bits >>> 14)) >>> 0) + 0.5) / 2 ** 32;
  };
  return Array.from({ length: pairs }, () => {
    const [radius, angle] = [Math.sqrt(-2 * Math.log(uniform())), 2 * Math.PI * uniform()];
    return [radius * Math.cos(angle), radius * Math.sin(angle)];
  });
}

const cosineRates = (first, last, steps) =>
  Array.from({ length: steps }, (_, t) => last + 0.5 * (first - last) * (1 + Math.cos((Math.PI * t) / steps)));

// The points of a run, their distances to the minimum, the root mean square of the distance over all noise, and the floor.
function descend(start, rates, noise, epsilons) {
  const path = [start];
  let square = start[0] ** 2 + start[1] ** 2;
  const rms = [Math.sqrt(square)];
  rates.forEach((rate, t) => {
    path.push(path[t].map((value, i) => value - rate * (value + noise * epsilons[t][i])));
    square = (1 - rate) ** 2 * square + 2 * (rate * noise) ** 2;
    rms.push(Math.sqrt(square));
  });
  const floor = rates.map((rate) => Math.sqrt((2 * rate * noise ** 2) / (2 - rate)));
  return { path, distance: path.map((point) => Math.hypot(...point)), rms, floor };
}

// ---- The figure ------------------------------------------------------------------------------------------------

function render({ model, el }) {
  const { steps, start, maxRate, maxNoise } = model.get("constants");
  const first = Object.fromEntries(["first", "last", "noise", "seed", "step"].map((trait) => [trait, model.get(trait)]));
  const [helpId, clipId] = ["help", "clip"].map((what) => `mk-${what}-${Math.random().toString(36).slice(2)}`);
  const save = afterRest(() => model.save_changes(), 150);

  const ratesDrawn = svg("g");
  const handles = svg("g");
  const rates = svg("svg", { role: "group", "aria-label": "The outer rate over the steps" }, ratesDrawn, handles);
  const bowl = svg("svg", { role: "img", "aria-label": "The two paths in the bowl, seen from above; the table has their distances to the minimum" });
  const clip = svg("rect", { y: 0, height: DISTANCE + 8 });
  const distancesDrawn = svg("g");
  const distances = svg("svg", { class: "mk-plot", role: "img", "aria-label": "Distance to the minimum after each step, and the floor of each rate; the table has the end" },
    svg("defs", {}, svg("clipPath", { id: clipId }, clip)), distancesDrawn);
  const row = html("div", { style: "display: flex; gap: 8px" }, rates, bowl);
  const sliders = [
    slider(model, "step", "step", { min: 0, max: steps, step: 1, save }),
    slider(model, "noise", "noise", { min: 0, max: maxNoise, step: 0.5, digits: 1, save }),
  ];
  const play = player(sliders[0], "play the steps", STRIDE);
  const other = html("button", { type: "button", onclick: () => { model.set("seed", model.get("seed") + 1); save(); } }, "other noise");
  const reset = restart(model, save, [play], first);
  const instead = (settings) => ({ ...first, ...settings });
  const places = presets(model, save, [play], [
    ["cosine to 0", instead({ last: 0 })],
    ["the rate stays", instead({ last: first.first })],
    ["start at 0.01", instead({ first: 0.01 })],
    ["no noise", instead({ noise: 0 })],
  ]);
  const verdict = html("p", { class: "mk-verdict", style: "font-size: 16px; font-weight: 600; margin: 4px 0; min-height: 3em" });
  const body = html("tbody");
  const caption = html("caption");
  const readout = html("div", { class: "mk-readout" },
    html("table", { style: "width: 100%" }, caption, tableHead("rate", "this noise", "on average", "floor"), body));
  const status = liveRegion();
  const picture = html("div", { class: "mk-picture" }, row, distances);
  const root = figureOf("noisy-bowl", "a constant rate and a cosine in a bowl with noise", {
    picture, numbers: readout, status,
    does: [
      verdict,
      html("div", { class: "mk-actions" }, play.node, other, reset, places),
      html("div", { class: "mk-controls" }, ...sliders.map((s) => s.node)),
      html("p", { id: helpId, class: "mk-help" }, "Drag the discs up or down (or select one and press the arrow keys): the rate at the start and at the end."),
    ],
    note: ["Both runs meet the same noise. Dotted: the floor of each rate, where a run would come to rest if the rate stayed. On average: the root of the mean square over all noise."],
  });

  // ---- The rate: two handles -------------------------------------------------------------------------------------

  const rateBox = { left: 34, right: 0, top: 24, bottom: ROW - 22 };
  const rateX = (t) => rateBox.left + 12 + (t / steps) * (rateBox.right - rateBox.left - 24);
  const rateY = (rate) => rateBox.bottom - (rate / maxRate) * (rateBox.bottom - rateBox.top);
  const rateAt = (event) => ((rateBox.bottom - (event.clientY - rates.getBoundingClientRect().top)) / (rateBox.bottom - rateBox.top)) * maxRate;
  const discs = [["first", "rate at the start", 0], ["last", "rate at the end", steps]].map(([trait, label, t]) => {
    const node = dragHandle(
      { "aria-label": label, "aria-describedby": helpId, "aria-valuemin": 0, "aria-valuemax": maxRate, "aria-orientation": "vertical" },
      { at: (event) => [rateAt(event)], get: () => [model.get(trait)], home: [first[trait]],
        set: ([rate]) => { model.set(trait, Math.min(maxRate, Math.max(0, Math.round(1000 * rate) / 1000))); save(); },
        moves: (event) => upAndDown(event.shiftKey ? 0.01 : 0.001) },
      svg("circle", { class: "mk-target", r: 18 }), svg("circle", { class: "mk-ring", r: 13 }), svg("circle", { r: 8 }));
    return { trait, t, node };
  });
  handles.append(...discs.map((disc) => disc.node));

  const line = (x1, y1, x2, y2, attributes = {}) => svg("line", { x1, y1, x2, y2, stroke: "var(--mk-rule)", ...attributes });
  const curve = (points, attributes) => svg("polyline", { points: points.map((p) => p.map((v) => v.toFixed(1)).join(",")).join(" "), fill: "none", ...attributes });

  const now = (x, { top, bottom }) => line(x, top, x, bottom, { class: "mk-step", stroke: "var(--mk-faint)", "stroke-width": 1.5 });

  function drawRates(runs) {
    ratesDrawn.replaceChildren(
      svg("text", { x: rateBox.left, y: 13, style: "font-weight: 600" }, "outer rate"),
      ...[0, maxRate / 2, maxRate].flatMap((rate) => [line(rateBox.left, rateY(rate), rateBox.right, rateY(rate)), tickLabel([rateBox.left, rateY(rate)], [-4, 4], rate, "end")]),
      tickLabel([rateX(0), rateBox.bottom], [0, 18], 0, "middle"),
      tickLabel([rateX(steps), rateBox.bottom], [-12, 18], `step ${steps}`, "end"),
      ...Object.entries(RUNS).map(([name, { colour, dash }]) =>
        curve([...runs[name].rates, name === "cosine" ? model.get("last") : model.get("first")].map((rate, t) => [rateX(t), rateY(rate)]), { stroke: colour, "stroke-width": 2.5, "stroke-dasharray": dash })),
      now(rateX(model.get("step")), rateBox));
    for (const { trait, t, node } of discs) {
      const rate = model.get(trait);
      node.setAttribute("transform", `translate(${rateX(t)} ${rateY(rate)})`);
      node.setAttribute("aria-valuenow", rate);
      node.setAttribute("aria-valuetext", format(rate, 3, false));
    }
  }

  // ---- The bowl from above, and the distances --------------------------------------------------------------------

  function drawBowl(runs, width, step) {
    const scale = Math.min(width / (VIEW.x[1] - VIEW.x[0]), ROW / (VIEW.y[1] - VIEW.y[0]));
    const [ox, oy] = [(width - scale * (VIEW.x[0] + VIEW.x[1])) / 2, (ROW + scale * (VIEW.y[0] + VIEW.y[1])) / 2];
    const px = ([x, y]) => [ox + scale * x, oy - scale * y];
    const [sx, sy] = px(start);
    bowl.replaceChildren(
      ...RINGS.map((r) => svg("circle", { cx: ox, cy: oy, r: r * scale, fill: "none", stroke: "var(--mk-rule)" })),
      ...Object.entries(RUNS).map(([name, { colour }]) => curve(runs[name].path.slice(0, step + 1).map(px), { stroke: colour, "stroke-width": 1.3, "stroke-linejoin": "round" })),
      cross([ox, oy], 7, false, "var(--mk-ink)"),
      ...Object.entries(RUNS).map(([name, { colour }]) => {
        const [cx, cy] = px(runs[name].path[step]);
        return svg("circle", { class: `mk-end-${name}`, cx, cy, r: 5.5, fill: colour, stroke: "var(--mk-paper)", "stroke-width": 1.5 });
      }),
      svg("circle", { cx: sx, cy: sy, r: 4, fill: "var(--mk-ink)" }),
      svg("text", { x: sx - 6, y: sy - 6, "text-anchor": "end", class: "mk-tick mk-halo", style: "font-weight: 400" }, "start"));
  }

  function drawDistances(runs, width, step) {
    const box = { left: 34, right: width - MARGIN, top: 8, bottom: 8 + DISTANCE - 22 };
    const [low, high] = DECADES.map(Math.log);
    const x = (t) => box.left + 4 + (t / steps) * (box.right - box.left - 8);
    const y = (distance) => box.bottom - ((Math.log(Math.max(distance, 1e-9)) - low) / (high - low)) * (box.bottom - box.top);
    clip.setAttribute("x", box.left);
    clip.setAttribute("width", Math.max(0, box.right - box.left));
    clip.setAttribute("height", box.bottom);
    const { floor } = runs.constant;
    distancesDrawn.replaceChildren(
      ...[0.03, 0.1, 0.3, 1, 3].flatMap((distance) => [line(box.left, y(distance), box.right, y(distance)), tickLabel([box.left, y(distance)], [-4, 4], distance, "end")]),
      ...[0, 100, 200].map((t) => tickLabel([x(t), box.bottom], [0, 16], t, "middle")),
      tickLabel([box.right, box.bottom], [0, 16], `step ${steps}`, "end"),
      now(x(step), box),
      svg("text", { x: box.right - 10, y: box.top + 10, "text-anchor": "end", class: "mk-halo", style: "font-weight: 600" }, "distance to the minimum"),
      svg("g", { "clip-path": `url(#${clipId})` },
        ...Object.entries(RUNS).map(([name, { colour }]) =>
          curve(runs[name].distance.slice(0, step + 1).map((distance, t) => [x(t), y(distance)]), { class: `mk-line-${name}`, stroke: colour, "stroke-width": 1.6, "stroke-linejoin": "round" })),
        ...Object.entries(RUNS).map(([name, { colour }]) =>
          curve(runs[name].floor.map((distance, t) => [x(t), y(distance)]), { stroke: colour, "stroke-width": 2.5, "stroke-dasharray": "2 4" }))),
      ...endLabels(box.right + 6, box.top + 4, box.bottom - 4, [
        ...(y(floor[0]) < box.bottom ? [{ words: "floor", colour: "var(--mk-ink)", y: y(floor[0]) }] : []),
        ...Object.entries(RUNS).map(([name, { colour }]) => ({ words: name, colour, y: y(runs[name].distance[step]) }))]));
  }

  // ---- Everything ------------------------------------------------------------------------------------------------

  function layout() {
    const width = picture.clientWidth;
    if (width <= 0) return;
    const half = Math.floor((width - 8) / 2);
    rateBox.right = half - 4;
    for (const [node, across, high] of [[rates, half, ROW], [bowl, half, ROW], [distances, width, DISTANCE + 8]]) {
      node.setAttribute("width", across);
      node.setAttribute("height", high);
    }
    draw();
  }

  function sentence({ constant, cosine }, step) {
    const [a, b] = [constant.rms[step], cosine.rms[step]];
    const show = (value) => (value < 0.005 ? "less than 0.01" : format(value, 2, false));
    const over = step === steps;
    const [when, end] = over ? ["", "end"] : [`After ${step} step${step === 1 ? "" : "s"}, `, "are"];
    const begin = (words) => when + (over ? words[0].toUpperCase() : words[0]) + words.slice(1);
    if (model.get("first") === model.get("last")) return `The two are the same. ${begin(`on average they ${end} ${show(a)} from the minimum.`)}`;
    const [one, two] = [`the cosine ${show(b)}`, `the constant rate ${show(a)}`];
    if (show(a) === show(b)) return begin(`the two ${end} level: ${one} from the minimum on average, ${two}.`);
    const nearer = over ? "ends nearer" : "is nearer";
    return begin(b < a ? `the cosine ${nearer} to the minimum: ${show(b)} on average, ${two}.` : `the constant rate ${nearer} to the minimum: ${show(a)} on average, ${one}.`);
  }

  function draw() {
    const width = picture.clientWidth;
    if (width <= 0 || !rateBox.right) return;
    const [begin, end, sigma, seed, step] = ["first", "last", "noise", "seed", "step"].map((trait) => model.get(trait));
    const epsilons = normalNumbers(seed, steps);
    const runs = Object.fromEntries([["constant", begin], ["cosine", end]].map(([name, last]) => {
      const plan = cosineRates(begin, last, steps);
      return [name, { rates: plan, ...descend(start, plan, sigma, epsilons) }];
    }));
    sliders.forEach((s) => s.update());
    drawRates(runs);
    drawBowl(runs, Math.floor((width - 8) / 2), step);
    drawDistances(runs, width, step);
    const show = (value) => format(value, 2, false);
    verdict.textContent = sentence(runs, step);
    caption.textContent = `Distance to the minimum after ${step} step${step === 1 ? "" : "s"}`;
    body.replaceChildren(...Object.entries(runs).map(([name, run]) =>
      tableRow(name === "constant" ? `constant, ${format(begin, 3, false)}` : `cosine to ${format(end, 3, false)}`,
        [show(run.distance[step]), show(run.rms[step]), show(run.floor[Math.max(0, step - 1)])])));
    const { constant, cosine } = runs;
    publish(readout, {
      first: begin, last: end, noise: sigma, seed, step,
      constant: constant.distance, cosine: cosine.distance, constantEnd: constant.path[step], cosineEnd: cosine.path[step],
      constantRms: constant.rms, cosineRms: cosine.rms, constantFloor: constant.floor, cosineFloor: cosine.floor,
    });
    status.say(`Rate from ${format(begin, 3, false)} to ${format(end, 3, false)}, noise ${format(sigma, 1)}. ${verdict.textContent}`);
  }

  return mount({ model, el }, root, ["first", "last", "noise", "seed", "step"], oncePerFrame(draw), layout);
}

export default { render };
