// Figure of chapter 3: two tasks on a loss surface. The numbers are exact: gradient and Hessian have closed forms, and
// the meta-gradient is the product of the factors (I - alpha H), each H taken where its inner step starts.

const X_RANGE = [-3, 3];
const Y_RANGE = [-2.4, 2.4];
const LEVELS = [1, 2, 3, 4, 5, 6, 7].map((i) => (0.34 * i) ** 2);
const ARROWS = Object.keys(METHODS);

// ---- Mathematics -----------------------------------------------------------------------------------------------

// Loss, gradient and Hessian of one task about the minimum `centre`: see the docstring of two_tasks.py.
function surface(task, centre, theta) {
  const [cos, sin] = [Math.cos(task.angle), Math.sin(task.angle)];
  const [d1, d2] = [theta[0] - centre[0], theta[1] - centre[1]];
  const [u1, u2] = [cos * d1 + sin * d2, -sin * d1 + cos * d2];
  const z = task.m * (u1 + u2);
  const tanh = Math.tanh(z);
  const logCosh = Math.abs(z) + Math.log1p(Math.exp(-2 * Math.abs(z))) - Math.LN2;
  const loss = 0.5 * (task.a * u1 * u1 + task.b * u2 * u2) + (task.w / task.m ** 2) * logCosh;
  const [g1, g2] = [task.a * u1 + (task.w / task.m) * tanh, task.b * u2 + (task.w / task.m) * tanh];
  const s = task.w * (1 - tanh * tanh);
  const [h11, h12, h22] = [task.a + s, s, task.b + s]; // in the rotated coordinates u
  return {
    loss,
    gradient: [cos * g1 - sin * g2, sin * g1 + cos * g2],
    hessian: [
      cos * cos * h11 - 2 * cos * sin * h12 + sin * sin * h22,
      cos * sin * (h11 - h22) + (cos * cos - sin * sin) * h12,
      sin * sin * h11 + 2 * cos * sin * h12 + cos * cos * h22,
    ],
  };
}

function adapt(task, theta, alpha, innerSteps) {
  const steps = [theta];
  for (let k = 0; k < innerSteps; k++) {
    const { gradient } = surface(task, task.support, steps[k]);
    steps.push([steps[k][0] - alpha * gradient[0], steps[k][1] - alpha * gradient[1]]);
  }
  return steps;
}

function solveTask(task, theta, alpha, innerSteps) {
  const steps = adapt(task, theta, alpha, innerSteps);
  const adapted = steps.at(-1);
  const query = surface(task, task.query, adapted);
  let v = query.gradient;
  for (let k = innerSteps - 1; k >= 0; k--) {
    const [h11, h12, h22] = surface(task, task.support, steps[k]).hessian; // at step k, not at theta
    v = [v[0] - alpha * (h11 * v[0] + h12 * v[1]), v[1] - alpha * (h12 * v[0] + h22 * v[1])];
  }
  return {
    steps,
    adapted,
    support: surface(task, task.support, theta).loss,
    query: surface(task, task.query, theta).loss,
    queryAfter: query.loss,
    maml: [-v[0], -v[1]],
    fomaml: [-query.gradient[0], -query.gradient[1]],
    reptile: [adapted[0] - theta[0], adapted[1] - theta[1]],
  };
}

function solve(tasks, theta, alpha, innerSteps) {
  const each = tasks.map((task) => solveTask(task, theta, alpha, innerSteps));
  const mean = (f) => each.reduce((sum, task) => sum + f(task), 0) / each.length;
  const arrows = {};
  for (const name of ARROWS) arrows[name] = [mean((t) => t[name][0]), mean((t) => t[name][1])];
  return { each, mean, arrows };
}

const length = ([x, y]) => Math.hypot(x, y);

// ---- Pieces of the figure --------------------------------------------------------------------------------------

const COLOURS = ["var(--mk-task-a)", "var(--mk-task-b)"];
const DASHES = [null, "5 2.5"];

// The handle theta: dragged, moved by the arrow keys, or sent to where the plot is clicked.
function thetaHandle({ model, save, plot, box, helpId }) {
  const start = model.get("theta");
  const at = (event) => {
    const corner = plot.getBoundingClientRect();
    return [
      X_RANGE[0] + ((event.clientX - corner.left - box.left) / box.width) * (X_RANGE[1] - X_RANGE[0]),
      Y_RANGE[1] - ((event.clientY - corner.top - box.top) / box.height) * (Y_RANGE[1] - Y_RANGE[0]),
    ];
  };
  const clamp = (value, [low, high]) => Math.min(high, Math.max(low, value));
  const set = ([x, y]) => {
    model.set("theta", [clamp(Math.round(x * 1e4) / 1e4, X_RANGE), clamp(Math.round(y * 1e4) / 1e4, Y_RANGE)]);
    save();
  };
  const moves = (event) => {
    const step = event.shiftKey ? 0.25 : 0.05;
    return { ArrowLeft: [-step, 0], ArrowRight: [step, 0], ArrowUp: [0, step], ArrowDown: [0, -step] };
  };
  const handle = dragHandle(
    {
      "aria-roledescription": "two-dimensional slider", "aria-label": "Initialisation theta", "aria-describedby": helpId,
      "aria-valuemin": X_RANGE[0], "aria-valuemax": X_RANGE[1],
    },
    { at, get: () => model.get("theta"), set, moves, home: start, ways: [...SIDEWAYS, ...UPRIGHT], r: 13 },
    svg("circle", { class: "mk-target", r: 22 }), svg("circle", { class: "mk-ring", r: 21 }), svg("circle", { r: 11 }),
    svg("text", { y: 5, "text-anchor": "middle", style: "font-size: 15px; font-style: italic" }, "θ"),
  );
  handle.addEventListener("click", (event) => event.stopPropagation());
  plot.addEventListener("click", (event) => set(at(event)));
  return handle;
}

// A box for each arrow, which says whether it is shown.
function arrowBoxes(model, save) {
  return ARROWS.map((name) => {
    const input = html("input", {
      type: "checkbox",
      onchange: () => {
        model.set("show", ARROWS.filter((key) => (key === name ? input.checked : model.get("show").includes(key))));
        save();
      },
    });
    const long = name === "maml" ? "MAML, true meta-gradient" : METHODS[name].name;
    const node = html("label", {}, input, methodSample(name), html("span", {}, html("b", {}, METHODS[name].letter), ` ${long}`));
    return { node, update: () => (input.checked = model.get("show").includes(name)) };
  });
}

// The box that puts the contours of the mean query loss in place of the support losses.
function contourBox(model, save) {
  const input = html("input", {
    type: "checkbox",
    onchange: () => {
      model.set("meta_contours", input.checked);
      save();
    },
  });
  const words = "contours of the mean query loss after K steps, in place of the support losses";
  return { node: html("label", {}, input, html("span", {}, words)), update: () => (input.checked = model.get("meta_contours")) };
}

// Contours of both support losses, and of the mean query loss after adaptation.
const supportContours = (tasks) => tasks.map((task, i) => svg("path", {
  class: "mk-line", stroke: COLOURS[i], "stroke-width": 1, "stroke-dasharray": DASHES[i],
  d: contourPath((theta) => surface(task, task.support, theta).loss, X_RANGE, Y_RANGE, LEVELS),
}));

function metaContours(tasks, alpha, innerSteps) {
  const meanQuery = (theta) => tasks.reduce((sum, task) => sum + surface(task, task.query, adapt(task, theta, alpha, innerSteps).at(-1)).loss, 0) / tasks.length;
  const levels = (values) => {
    const [low, high] = [Math.min(...values), Math.max(...values)];
    return [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11].map((i) => low + (high - low) * (i / 12) ** 2);
  };
  return [svg("path", { class: "mk-line", stroke: "var(--mk-faint)", "stroke-width": 1, d: contourPath(meanQuery, X_RANGE, Y_RANGE, levels) })];
}

// One task: its minima, its name, its inner steps; letters are where those of the arrows stand.
function taskMarks(px, task, colour, steps, letters) {
  const path = steps.map(px);
  const [x, y] = px(task.support);
  const end = path.at(-1);
  // The name stands on the side of its minimum where most room is left.
  const taken = [px(task.query), ...path, ...letters];
  const room = ([dx, dy]) => Math.min(...taken.map(([tx, ty]) => Math.hypot((x + dx - tx) / 2, y + dy - 5 - ty)));
  const [dx, dy] = [[0, 22], [0, -12], [-36, 5], [36, 5]].reduce((best, side) => (room(side) > room(best) + 2 ? side : best));
  return [
    cross([x, y], 6, false, colour),
    cross(px(task.query), 5, true, colour),
    svg("text", { x: x + dx, y: y + dy, "text-anchor": "middle", class: "mk-halo", style: `fill: ${colour}` }, `task ${task.name}`),
    svg("polyline", { points: path.map((p) => p.join(",")).join(" "), fill: "none", stroke: colour, "stroke-width": 2.5 }),
    ...path.slice(1, -1).map(([cx, cy]) => svg("circle", { cx, cy, r: 3.5, fill: colour })),
    svg("circle", { class: "mk-adapted", cx: end[0], cy: end[1], r: 9, fill: colour, stroke: "var(--mk-paper)", "stroke-width": 1.5 }),
    svg("text", { x: end[0], y: end[1] + 4.5, class: "mk-letter" }, task.name),
  ];
}

// Letters of nearly parallel arrows would cover each other: turn them apart.
function spreadLetters(drawn) {
  for (let round = 0; round < 12; round++) {
    for (const p of drawn) {
      for (const q of drawn) {
        if (p === q || Math.abs(p.reach - q.reach) > 18) continue;
        const gap = Math.atan2(Math.sin(p.letterAt - q.letterAt), Math.cos(p.letterAt - q.letterAt));
        const need = 17 / (Math.min(p.reach, q.reach) + 12);
        if (Math.abs(gap) >= need) continue;
        const push = ((need - Math.abs(gap)) / 2) * (gap > 0 || (gap === 0 && p.name < q.name) ? 1 : -1);
        p.letterAt += push;
        q.letterAt -= push;
      }
    }
  }
}

// The arrows from a pixel, in a plot of this width, and where their letters stand; Reptile's is as long as K inner steps, and is
// shortened by alpha K.
function arrowMarks([x, y], width, arrows, shown, scaleOfReptile) {
  const drawn = ARROWS.filter((name) => shown.includes(name) && length(arrows[name]) > 1e-12).map((name) => {
    const [u, v] = arrows[name];
    const size = length([u, v]) / (name === "reptile" ? scaleOfReptile : 1);
    const direction = Math.atan2(-v, u);
    return { name, reach: 34 + (0.16 * width * size) / (size + 0.5), direction, letterAt: direction };
  });
  spreadLetters(drawn);
  const at = (angle, r) => [x + r * Math.cos(angle), y + r * Math.sin(angle)];
  const letters = drawn.map(({ reach, letterAt }) => at(letterAt, reach + 12));
  const nodes = drawn.flatMap(({ name, reach, direction }, i) => [methodArrow(name, [x, y], at(direction, reach)), methodLetter(name, ...letters[i])]);
  return { letters, nodes };
}

// Two tables: losses, and arrows with their angle to MAML's.
function tables() {
  const [lossRows, arrowRows] = [html("tbody"), html("tbody")];
  const node = html(
    "div", { class: "mk-tables mk-readout" },
    html("table", {}, html("caption", {}, "Loss"), tableHead("which", "task A", "task B", "mean"), lossRows),
    html("table", {}, html("caption", {}, "Arrows and their angle to M"), tableHead("method", "vector", "length", "angle"), arrowRows),
  );
  const update = ({ each, mean, arrows }, innerSteps) => {
    const losses = [["support, at θ", "support"], ["query, at θ", "query"], [`query, after ${innerSteps} step${innerSteps > 1 ? "s" : ""}`, "queryAfter"]];
    lossRows.replaceChildren(...losses.map(([name, key]) => tableRow(name, [...each.map((task) => format(task[key])), format(mean((task) => task[key]))])));
    arrowRows.replaceChildren(...ARROWS.map((name) => tableRow(methodName(name), [
      `(${arrows[name].map((v) => format(v, length(arrows[name]) < 0.01 ? 5 : 3, false)).join(", ")})`,
      format(length(arrows[name])),
      name === "maml" ? "–" : `${format(angleBetween(arrows[name], arrows.maml), 1)}°`,
    ])));
  };
  return { node, update };
}

// ---- The figure ------------------------------------------------------------------------------------------------

function render({ model, el }) {
  const tasks = model.get("tasks");
  const helpId = `mk-help-${Math.random().toString(36).slice(2)}`;
  const save = afterRest(() => model.save_changes(), 150);
  const plane = parameterPlane(X_RANGE, Y_RANGE, [-2, -1, 0, 1, 2], [-2, -1, 0, 1, 2]);
  const { box, px, data: contours } = plane;
  const marks = svg("g");
  const plot = svg("svg", { class: "mk-plot", role: "group", "aria-label": "Parameter plane with both tasks" }, plane.frame, contours, marks);
  const handle = thetaHandle({ model, save, plot, box, helpId });
  plot.append(handle);
  const sliders = [
    slider(model, "inner_steps", "inner steps K", { min: 1, max: 10, step: 1, save }),
    slider(model, "alpha", "step size α", { min: 0.02, max: 0.8, step: 0.02, digits: 2, save }),
  ];
  const [boxes, meta, readout, status] = [arrowBoxes(model, save), contourBox(model, save), tables(), liveRegion()];
  const place = html("span", { class: "mk-place", style: "font-variant-numeric: tabular-nums" });
  const play = player(sliders[0]);
  const places = presets(model, save, [play], [
    ["not far apart", { theta: model.get("theta"), alpha: 0.4, inner_steps: 3 }],
    ["opposite ways", { theta: [1.2, 0.8], alpha: 0.4, inner_steps: 5 }],
  ]);
  const picture = html("div", { class: "mk-picture" }, plot);
  const root = figureOf("two-tasks", "two tasks, one initialisation", {
    picture, numbers: readout.node, status,
    does: [
      html("fieldset", {}, html("legend", { class: "mk-hidden" }, "Arrows to show"), ...boxes.map((box) => box.node)),
      html("div", { class: "mk-actions" }, place, play.node, places),
      html("div", { class: "mk-controls" }, ...sliders.map((s) => s.node)),
      meta.node,
      html("p", { id: helpId, class: "mk-help" }, "Drag θ, or select it and press the arrow keys (with Shift: bigger steps), and see where each method would move it."),
    ],
    note: [
      "+ minimum of the support loss, × of the query loss; the lines with dots are the inner steps on the support loss, ",
      "which end at the adapted parameters, the discs A and B. Arrows show directions; their lengths are compressed, the numbers are in the table."],
  });

  // Contours change only with the surface they show, so they are kept under a key.
  let contourKey = null;
  function drawContours(alpha, innerSteps) {
    const key = model.get("meta_contours") ? `${alpha} ${innerSteps}` : "support";
    if (key === contourKey) return;
    contourKey = key;
    contours.replaceChildren(...(key === "support" ? supportContours(tasks) : metaContours(tasks, alpha, innerSteps)));
  }

  function draw() {
    if (!box.width) return;
    const [theta, alpha, innerSteps, show] = ["theta", "alpha", "inner_steps", "show"].map((key) => model.get(key));
    const solved = solve(tasks, theta, alpha, innerSteps);
    const { each, mean, arrows } = solved;
    drawContours(alpha, innerSteps);
    const { letters, nodes } = arrowMarks(px(theta), box.width, arrows, show, alpha * innerSteps);
    marks.replaceChildren(...tasks.flatMap((task, i) => taskMarks(px, task, COLOURS[i], each[i].steps, letters)), ...nodes);
    [...sliders, ...boxes, meta].forEach((control) => control.update());
    readout.update(solved, innerSteps);

    const text = `(${format(theta[0], 2)}, ${format(theta[1], 2)})`;
    handle.setAttribute("transform", `translate(${px(theta).join(" ")})`);
    handle.setAttribute("aria-valuenow", theta[0]);
    handle.setAttribute("aria-valuetext", text);
    place.textContent = `θ = ${text}`;
    const exact = { theta, alpha, innerSteps, ...arrows };
    for (const key of ["adapted", "support", "query", "queryAfter"]) exact[key] = each.map((task) => task[key]).flat();
    publish(readout.node, exact);
    status.say(`θ = ${text}, K = ${innerSteps}, α = ${format(alpha, 2)}. Mean query loss ${format(mean((t) => t.query))} before and ` +
      `${format(mean((t) => t.queryAfter))} after adaptation. Angle to MAML: FOMAML ${format(angleBetween(arrows.fomaml, arrows.maml), 0)}°, ` +
      `Reptile ${format(angleBetween(arrows.reptile, arrows.maml), 0)}°.`);
  }

  function layout() {
    if (plane.fit(plot, picture.clientWidth)) draw();
  }

  return mount({ model, el }, root, ["theta", "alpha", "inner_steps", "show", "meta_contours"], oncePerFrame(draw), layout);
}

export default { render };
