// The table of results: an arm and a difficulty per row, means over the seeds, the paper's figure beside them. Then what it cost.

/// One row per arm and difficulty, in the order in which the data names them.
function resultRows() {
  const rows = [];
  for (const arm of DATA.arms || []) {
    const found = new Map();
    for (const run of arm.runs || []) {
      for (const score of run.scores || []) {
        const key = `${score.difficulty}\n${score.windows ?? ""}`;
        if (!found.has(key)) found.set(key, { arm, difficulty: score.difficulty, windows: score.windows, scores: [] });
        found.get(key).scores.push(score);
      }
    }
    rows.push(...found.values());
  }
  const order = [...new Set(rows.map((row) => row.difficulty))];
  for (const row of rows) {
    row.rank = order.indexOf(row.difficulty);
    row.of = (key) => spread(row.scores.map((score) => score[key]));
    row.paper = (DATA.paper || []).find((p) => p.kind === row.arm.kind && p.difficulty === row.difficulty)?.greedy;
  }
  return rows;
}

const windowsText = (windows) => (isNumber(windows) ? ` · ${many(windows, "window")}` : "");

/// A column of means.
const measured = (key, label, title, format, extra) => ({
  label, title, number: true,
  value: (row) => row.of(key)?.mean ?? -Infinity,
  cell: (row) => spreadCell(row.of(key), format),
  ...extra,
});

function resultColumns(rows) {
  const barred = (row, key) => row.of(key)?.mean ?? 0;
  const varies = (key) => rows.some((row) => row.scores.some((score) => score[key]));
  return [
    { label: "Arm", value: (row) => row.arm.name, cell: (row) => [armName(row.arm)], head: true },
    { label: "Tasks", value: (row) => row.rank, cell: (row) => [el("span", {}, row.difficulty + windowsText(row.windows)), el("span", { class: "range" }, many(Math.round(row.of("tasks")?.mean ?? 0), "task"))] },
    { label: "Seeds", number: true, value: (row) => row.scores.length, cell: (row) => [String(row.scores.length)] },
    measured("greedy", "Greedy", "Share of tasks solved taking the most likely token", show.share, { bar: (row) => barred(row, "greedy") }),
    measured("t1", "T = 1", "Share of tasks solved when sampling at temperature 1", show.share, { bar: (row) => barred(row, "t1") }),
    rows.some((row) => isNumber(row.paper)) && { label: "Paper", title: "What the paper publishes for a model that reads and writes text, greedy", number: true, value: (row) => row.paper ?? -1, cell: (row) => [show.share(row.paper)] },
    rows.some((row) => row.scores.some((s) => isNumber(s.credit) && s.credit !== s.greedy)) && measured("credit", "Credit", "Mean success, partial success included", show.share),
    measured("nodes", "Agents", "Agents per tree", show.mean),
    { label: "Largest", title: "Agents of the largest tree", number: true, value: (row) => row.of("nodes_max")?.max ?? -1, cell: (row) => [show.count(row.of("nodes_max")?.max)] },
    measured("tokens", "Tokens", "Tokens read and written per tree", show.mean),
    measured("critical_path", "Critical path", "Sampled tokens that had to come one after the other", show.mean),
    measured("seconds", "Time per task", "Wall clock per task, all tasks of a row side by side", show.seconds),
    varies("unjudged") && measured("unjudged", "Unjudged", "Tasks that no judge could decide", show.mean),
    varies("faults") && measured("faults", "Faults", "Tasks that an error outside the agents ended", show.mean),
  ].filter(Boolean);
}

/// The name of an arm with its colour, and a word if a run of it is not over.
function armName(arm) {
  const open = (arm.runs || []).filter((run) => run.finished === false).length;
  return el("span", { class: "arm", title: (arm.settings || []).join("\n") || null }, el("i", { class: `swatch ${arm.kind}`, css: { "--c": `var(${armColour(arm)})` } }), el("span", {}, el("span", { class: "name" }, arm.name), open > 0 && [" ", el("span", { class: "badge warn" }, `${many(open, "seed")} unfinished`)]));
}

/// A table whose header cells sort it. The first click puts the largest first where a column holds numbers.
function sortedTable(label, columns, rows) {
  let by = null;
  let sign = 1;
  const body = el("tbody");
  const heads = columns.map((column) => {
    const th = el("th", { scope: "col", class: column.number ? "number" : null, title: column.title });
    th.append(el("button", { type: "button", onclick: () => sort(column, th) }, column.label));
    return th;
  });
  function fill() {
    const sorted = by ? [...rows].sort((a, b) => sign * compare(by.value(a), by.value(b))) : rows;
    body.replaceChildren(...sorted.map((row, i) => el("tr", { class: !by && i > 0 && row.arm !== sorted[i - 1].arm ? "first" : null }, columns.map((column) => {
      const cell = el(column.head ? "th" : "td", { scope: column.head ? "row" : null, class: [column.number && "number", column.bar && "barred"].filter(Boolean).join(" ") || null }, column.cell(row));
      if (column.bar) cell.style.setProperty("--share", column.bar(row));
      return cell;
    }))));
  }
  function sort(column, th) {
    sign = by === column ? -sign : column.number ? -1 : 1;
    by = column;
    for (const other of heads) other.removeAttribute("aria-sort");
    th.setAttribute("aria-sort", sign > 0 ? "ascending" : "descending");
    fill();
  }
  fill();
  return scrollTable(label, el("thead", {}, el("tr", {}, heads)), body);
}

const compare = (a, b) => (typeof a === "string" ? a.localeCompare(b, "en", { numeric: true }) : a - b);

function renderResults(host) {
  const rows = resultRows();
  if (!rows.length) {
    const why = (DATA.arms || []).length ? "No run in this report has been evaluated yet." : "This report holds no runs.";
    host.append(el("p", { class: "empty" }, `${why} `, el("code", {}, "rao train"), " trains a policy, evaluates it, and leaves both to be reported."));
    return;
  }
  const paper = rows.some((row) => isNumber(row.paper));
  host.append(
    el("p", { class: "lead" }, "Means over seeds, with the lowest and the highest seed below. Greedy and T = 1 are shares of tasks solved.",
      paper && " The paper's figures are for the same benchmark, not the same problem: there the model reads and writes text.", " Click a heading to sort."),
    sortedTable("Results", resultColumns(rows), rows));
}

function renderCost(host) {
  const arms = (DATA.arms || []).filter((arm) => (arm.runs || []).length);
  if (!arms.length) {
    host.append(el("p", { class: "empty" }, "What runs cost is shown once there are runs: ", el("code", {}, "rao train"), "."));
    return;
  }
  const last = (run, key) => (run.steps?.[key] || []).filter(isNumber).at(-1);
  const length = (run) => run.steps && Math.max(0, ...Object.values(run.steps).map((column) => column.length));
  const column = (label, title, of, format) => {
    const all = (arm) => spread(arm.runs.map(of));
    return { label, title, number: true, value: (row) => all(row.arm)?.mean ?? -Infinity, cell: (row) => spreadCell(all(row.arm), format) };
  };
  const columns = [
    { label: "Arm", value: (row) => row.arm.name, cell: (row) => [armName(row.arm)], head: true },
    { label: "Seeds", number: true, value: (row) => row.arm.runs.length, cell: (row) => [String(row.arm.runs.length)] },
    column("Steps", "Updates of the policy", length, show.mean),
    column("Training", "Wall clock of the training alone", (run) => run.train_seconds, show.seconds),
    column("In all", "Wall clock of the run, evaluation included", (run) => run.total_seconds, show.seconds),
    column("Peak memory", "Largest resident size of the process", (run) => run.memory_peak, show.bytes),
    column("Environment tokens", "Tokens read and written in training", (run) => last(run, "tokens"), show.amount),
  ];
  host.append(sortedTable("Cost", columns, arms.map((arm) => ({ arm }))));
}
