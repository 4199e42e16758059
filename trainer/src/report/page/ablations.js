// Ablations: every cell against the base cell, by kind of arm and difficulty.

/// Scores of an arm by difficulty and seed.
function scoresOf(arm, key) {
  const by = new Map();
  for (const run of arm.runs || []) {
    for (const score of run.scores || []) {
      if (!isNumber(score[key])) continue;
      const name = score.difficulty + windowsText(score.windows);
      if (!by.has(name)) by.set(name, new Map());
      by.get(name).set(run.seed, score[key]);
    }
  }
  return by;
}

/// Differences to the base: seed by seed where both arms have the seed, else every seed against the base's mean.
function differences(of, base) {
  if (!of || !base) return null;
  const shared = [...of.keys()].filter((seed) => base.has(seed));
  if (shared.length) return { ...spread(shared.map((seed) => of.get(seed) - base.get(seed))), paired: true };
  const mean = spread([...base.values()]).mean;
  return { ...spread([...of.values()].map((value) => value - mean)), paired: false };
}

/// A bar that leaves the middle to the right where the cell is better, to the left where it is worse; the thin line is the range.
function differenceCell(d, scale) {
  if (!d) return [el("span", { class: "none" }, NONE)];
  const at = (x) => `${50 + (50 * Math.max(-scale, Math.min(scale, x))) / scale}%`;
  return [
    el("span", { class: "mean" }, show.signed(d.mean)),
    el("span", { class: `diverging ${d.mean < 0 ? "worse" : "better"}`, "aria-hidden": "true", css: { "--from": at(Math.min(0, d.mean)), "--to": at(Math.max(0, d.mean)), "--low": at(d.min), "--high": at(d.max) } }, el("i"), el("b")),
    el("span", { class: "range" }, d.n > 1 ? `${show.signed(d.min)} to ${show.signed(d.max)}` : "one seed"),
  ];
}

function renderAblations(host) {
  const arms = DATA.arms || [];
  const others = arms.filter((arm) => cellOf(arm) !== BASE);
  if (!others.length) {
    host.append(el("p", { class: "empty" }, arms.length ? "There is only one cell here, so there is nothing to compare it with. " : "There are no runs to compare. ",
      "Runs with other settings (", el("code", {}, "rao train --set KEY=VALUE"), ") are compared once they are reported together."));
    return;
  }
  const body = el("div");
  const draw = (key) => body.replaceChildren(ablationTable(arms, others, key));
  host.append(
    el("p", { class: "lead" }, "What each cell solves more or less than ", el("b", {}, BASE), ", as a difference of shares, seed by seed: mean, then lowest to highest."),
    el("div", { class: "controls" }, select("Tasks solved", [["greedy", "greedy"], ["t1", "sampling at T = 1"]], "greedy", draw)), body);
  draw("greedy");
}

function ablationTable(arms, others, key) {
  const bases = new Map(arms.filter((arm) => cellOf(arm) === BASE).map((arm) => [arm.kind, scoresOf(arm, key)]));
  const rows = others.map((arm) => ({ arm, scores: scoresOf(arm, key), base: bases.get(arm.kind) || new Map() }));
  const difficulties = [...new Set([...bases.values(), ...rows.map((row) => row.scores)].flatMap((by) => [...by.keys()]))];
  for (const row of rows) row.by = difficulties.map((name) => differences(row.scores.get(name), row.base.get(name)));
  // One scale for the whole table, so that bars may be compared; not below a tenth, or noise would look like an effect.
  const scale = Math.max(0.1, ...rows.flatMap((row) => row.by).filter(Boolean).flatMap((d) => [Math.abs(d.min), Math.abs(d.max)]));
  return scrollTable("Ablations",
    el("thead", {}, el("tr", {}, el("th", { scope: "col" }, "Arm"), difficulties.map((name) => el("th", { scope: "col", class: "number" }, name)))),
    el("tbody", {}, rows.map((row) => el("tr", {},
      el("th", { scope: "row" }, armName(row.arm), (row.arm.settings || []).map((setting) => el("code", { class: "setting" }, setting))),
      row.by.map((d) => el("td", { class: "number" }, differenceCell(d, scale)))))));
}
