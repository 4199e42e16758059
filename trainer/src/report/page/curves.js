// Learning curves: a line per arm is the mean over its seeds, the band reaches from the lowest seed to the highest.

/// What the steps measure: name, and whether it is a share (drawn from 0 to 1).
const MEASURES = {
  root_success: ["Tasks solved", true],
  node_success: ["Agents that succeeded", true],
  nodes_per_tree: ["Agents per tree", false],
  parallel: ["Launches made together with another", true],
  critical_path: ["Share of sampled tokens on the critical path", true],
  delegation: ["Agents that delegated", true],
  entropy: ["Entropy of the actions, nats", false],
  mismatch: ["Sampler against learner, nats a token", false],
};
const AXES = { step: "Step", tokens: "Environment tokens", seconds: "Seconds" };
const SMOOTHING = 5;
const GRID = 400;

/// The points of a run that have both an x and a y.
function curveOf(run, x, y, smooth) {
  const ys = run.steps?.[y] || [];
  const xs = x === "step" ? ys.map((_, i) => i) : run.steps?.[x] || [];
  const keep = ys.map((_, i) => i).filter((i) => isNumber(ys[i]) && isNumber(xs[i]));
  const values = keep.map((i) => ys[i]);
  return { x: keep.map((i) => xs[i]), y: smooth ? movingMean(values) : values };
}

/// Mean over a window centred on each point; at the ends over what there is of it.
function movingMean(values) {
  const half = (SMOOTHING - 1) / 2;
  return values.map((_, i) => {
    const near = values.slice(Math.max(0, i - half), i + half + 1);
    return near.reduce((a, b) => a + b, 0) / near.length;
  });
}

/// The value of a curve at `at`, between its points by a straight line; null outside of it.
function valueAt(curve, at) {
  const { x, y } = curve;
  if (!x.length || at < x[0] || at > x[x.length - 1]) return null;
  let [low, high] = [0, x.length - 1];
  while (high - low > 1) {
    const middle = (low + high) >> 1;
    if (x[middle] <= at) low = middle;
    else high = middle;
  }
  if (x[high] === x[low]) return y[high];
  return y[low] + ((y[high] - y[low]) * (at - x[low])) / (x[high] - x[low]);
}

/// All arms on one grid. A line exists only where all seeds of its arm do: a mean over fewer would jump where a seed ends.
function curveTable(arms, x, y, smooth) {
  const lines = [];
  for (const arm of arms) {
    const curves = (arm.runs || []).map((run) => curveOf(run, x, y, smooth)).filter((curve) => curve.x.length);
    if (!curves.length) continue;
    const from = Math.max(...curves.map((curve) => curve.x[0]));
    const to = Math.min(...curves.map((curve) => curve.x.at(-1)));
    lines.push({ arm, curves, from, to, cut: x === "step" && curves.some((curve) => curve.x.at(-1) > to) });
  }
  if (!lines.length) return null;
  const start = Math.min(...lines.map((line) => line.from));
  const end = Math.max(...lines.map((line) => line.to), start);
  const whole = x === "step" && end - start < 2000;
  const points = whole ? end - start + 1 : GRID;
  // The grid holds where every line ends, or a line would end up to one cell early.
  const grid = Array.from({ length: points }, (_, i) => (whole ? start + i : start + ((end - start) * i) / (points - 1)));
  const xs = [...new Set([...grid, ...lines.flatMap((line) => [line.from, line.to])])].sort((a, b) => a - b);
  for (const line of lines) {
    const at = xs.map((x) => (x < line.from || x > line.to ? null : spread(line.curves.map((curve) => valueAt(curve, x)))));
    for (const key of ["mean", "min", "max"]) line[key] = at.map((s) => s && s[key]);
  }
  return { xs, lines };
}

function plotOptions(table, x, y, width, oncursor) {
  const share = MEASURES[y]?.[1];
  const axis = (label, format) => ({
    label, labelSize: 22, labelFont: "13px system-ui, sans-serif", font: "12px system-ui, sans-serif", stroke: () => colour("--soft"),
    grid: { stroke: () => colour("--line"), width: 1 }, ticks: { stroke: () => colour("--line"), width: 1, size: 5 }, values: (_, splits) => splits.map(format),
  });
  const series = [{}];
  const bands = [];
  for (const { arm, shown } of table.lines) {
    const stroke = () => colour(armColour(arm));
    const points = { show: false };
    series.push({ label: arm.name, show: shown, stroke, width: 2, dash: arm.kind === "flat" ? [6, 5] : undefined, points, spanGaps: false });
    series.push({ show: shown, points, stroke: "transparent", width: 0 }, { show: shown, points, stroke: "transparent", width: 0 });
    const at = series.length;
    bands.push({ series: [at - 1, at - 2], fill: () => faded(colour(armColour(arm)), 0.16) });
  }
  return {
    width, height: Math.round(Math.max(260, Math.min(440, width * 0.45))),
    series, bands, legend: { show: false }, padding: [12, 16, 0, 0],
    cursor: { points: { size: 7, show: (u, i) => (i % 3 === 1 ? undefined : false) }, y: false, drag: { x: true, y: false } },
    scales: { x: { time: false }, y: { range: share ? [0, 1.02] : (_, low, high) => [Math.min(0, low), high > 0 ? high * 1.06 : 1] } },
    axes: [{ ...axis(AXES[x], (v) => (v >= 1e6 ? `${+(v / 1e6).toFixed(2)} M` : grouped.format(v))), size: 34, space: 84 }, { ...axis(MEASURES[y]?.[0] || y, show.plain), size: 58 }],
    hooks: { setCursor: [(u) => oncursor(u.cursor.idx)] },
  };
}

/// The names of the arms, what each is worth under the pointer (else at its end), and a switch for its line.
function legendOf(table, format, ontoggle) {
  const rows = table.lines.map((line, i) => {
    const value = el("span", { class: "value" });
    const button = el("button", { type: "button", "aria-pressed": String(line.shown), onclick: () => {
      line.shown = !line.shown;
      button.setAttribute("aria-pressed", String(line.shown));
      ontoggle(i, line.shown);
    } }, el("i", { class: `swatch ${line.arm.kind}`, css: { "--c": `var(${armColour(line.arm)})` } }), el("span", { class: "name" }, line.arm.name), value);
    return { button, value, line };
  });
  const update = (at) => {
    for (const { value, line } of rows) {
      const i = at ?? line.mean.findLastIndex((v) => v !== null);
      const [mean, low, high] = [line.mean[i], line.min[i], line.max[i]].map(format);
      value.textContent = low === high ? mean : `${mean}  (${low} to ${high})`;
    }
  };
  update(null);
  return { node: el("div", { class: "legend", role: "group", "aria-label": "Arms: choose which are drawn" }, rows.map((row) => row.button)), update };
}

function renderCurves(host) {
  const arms = (DATA.arms || []).filter((arm) => (arm.runs || []).some((run) => run.steps && Object.values(run.steps).some((column) => column.length)));
  if (!arms.length) {
    host.append(el("p", { class: "empty" }, "There are no training steps to draw. ", el("code", {}, "rao train"), " writes one line of measurements per step."));
    return;
  }
  const found = new Set(arms.flatMap((arm) => arm.runs.flatMap((run) => Object.keys(run.steps || {}).filter((key) => run.steps[key].some(isNumber)))));
  const axes = Object.entries(AXES).filter(([key]) => key === "step" || found.has(key));
  found.delete("tokens");
  found.delete("seconds");
  const measures = [...Object.keys(MEASURES).filter((key) => found.has(key)), ...[...found].filter((key) => !MEASURES[key])];
  const state = { x: "step", y: measures[0], smooth: true };
  const hidden = new Set();
  const plot = el("div", { class: "plot", role: "img" });
  const legend = el("div");
  const note = el("p", { class: "note" });
  let chart = null;

  function draw() {
    const table = curveTable(arms, state.x, state.y, state.smooth);
    chart?.destroy();
    for (const line of table.lines) line.shown = !hidden.has(line.arm);
    const names = legendOf(table, MEASURES[state.y]?.[1] ? show.share : show.plain, (i, shown) => {
      hidden[shown ? "delete" : "add"](table.lines[i].arm);
      chart.batch(() => [1, 2, 3].forEach((k) => chart.setSeries(3 * i + k, { show: shown })));
    });
    legend.replaceChildren(names.node);
    plot.setAttribute("aria-label", `${MEASURES[state.y]?.[0] || state.y} by ${AXES[state.x].toLowerCase()}; the values at the end of each line stand in the legend`);
    chart = new uPlot(plotOptions(table, state.x, state.y, plot.clientWidth, names.update), [table.xs, ...table.lines.flatMap((line) => [line.mean, line.min, line.max])], plot);
    const cut = table.lines.filter((line) => line.cut).map((line) => line.arm.name);
    note.textContent = "Line: mean over seeds. Band: lowest to highest seed." +
      (state.smooth ? ` Smoothed: each seed is a moving mean of ${SMOOTHING} steps.` : "") +
      (state.x === "step" ? "" : " Seeds are compared at the same position by straight lines between their steps.") +
      (cut.length ? ` Seeds of different lengths are drawn as far as all of them reach: ${cut.join("; ")}.` : "") +
      " Drag across the plot to enlarge a stretch, double-click to see all.";
  }
  const change = (key) => (value) => {
    state[key] = value;
    draw();
  };
  const smooth = el("input", { type: "checkbox", checked: true, onchange: () => change("smooth")(smooth.checked) });
  host.append(
    el("div", { class: "controls" },
      select("Show", measures.map((key) => [key, MEASURES[key]?.[0] || key]), state.y, change("y")),
      select("by", axes, state.x, change("x")),
      el("label", { class: "field" }, smooth, el("span", {}, `smooth over ${SMOOTHING} steps`))),
    el("div", { class: "chart" }, plot, legend), note);
  draw();
  let width = plot.clientWidth;
  new ResizeObserver(eachFrame(() => {
    if (plot.clientWidth === width || !plot.clientWidth) return;
    width = plot.clientWidth;
    chart.setSize({ width, height: Math.round(Math.max(260, Math.min(440, width * 0.45))) });
  })).observe(plot);
  document.addEventListener("theme", () => chart.redraw(false));
}
