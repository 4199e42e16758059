// Puts the page together: header, sections, the group and the tree that are looked at, and the theme.

function renderHeader() {
  document.getElementById("version").textContent = DATA.rao || "";
  const [arms, groups] = [DATA.arms || [], DATA.groups || []];
  const runs = arms.reduce((sum, arm) => sum + (arm.runs || []).length, 0);
  const trees = groups.reduce((sum, group) => sum + (group.trees || []).length, 0);
  document.getElementById("about").textContent = [DATA.generated, runs > 0 && `${many(runs, "run")} in ${many(arms.length, "arm")}`, trees > 0 && `${many(trees, "tree")} in ${many(groups.length, "group")}`].filter(Boolean).join(" · ");
  const notes = DATA.notes || [];
  if (!notes.length) return;
  const box = document.getElementById("notes");
  box.hidden = false;
  // A few notes are read at once; a long list waits to be asked for.
  box.open = notes.length <= 4;
  box.querySelector("summary").textContent = many(notes.length, "note") + " on what this report leaves out";
  box.querySelector("ul").append(...notes.map((note) => el("li", {}, note)));
}

/// A tile per tree of the group: how its root did, and against the others.
function treeTile(tree, k, scale, onclick) {
  const success = successOf(tree)[0];
  const state = stateOf(tree.status?.[0], success);
  return el("button", { type: "button", class: "tile", "aria-pressed": "false", onclick },
    el("span", { class: "tile-head" }, icon(state, STATES[state]), el("b", {}, `Tree ${k + 1}`), el("span", { class: "soft" }, many(tree.parent.length, "agent"))),
    el("span", { class: "tile-line" }, el("span", {}, "success"), el("span", {}, show.share(success))),
    tree.reward && el("span", { class: "tile-line" }, el("span", {}, "reward"), el("span", {}, show.share(tree.reward[0]).replace("-", "−"))),
    tree.advantage && el("span", { class: "tile-line" }, el("span", {}, "advantage"), advantageChip(tree.advantage[0], scale)));
}

function renderTrees(host) {
  const groups = (DATA.groups || []).filter((group) => (group.trees || []).some((tree) => tree.parent?.length));
  if (!groups.length) {
    host.append(el("p", { class: "empty" }, "This report holds no trees. ", el("code", {}, "rao train"), " records trees as it goes, and ", el("code", {}, "rao rollout --trace FILE"), " records one."));
    return;
  }
  const tiles = el("div", { class: "tiles", role: "group", "aria-label": "Trees of the group" });
  const source = el("p", { class: "note source" });
  const found = el("span", { class: "soft", role: "status" });
  const search = el("input", { type: "search", placeholder: "task, status or words", oninput: () => view.filter(search.value) });
  let model = null;
  const choose = (i, from) => {
    if (from !== view) view.select(i, { quiet: true });
    timeline.select(i);
    detail.show(model, i);
  };
  const detail = new DetailView((i) => choose(i, detail), () => view.select(view.active, { focus: true }));
  const view = new TreeView((i) => choose(i, view), () => {
    detail.node.focus({ preventScroll: true });
    detail.node.scrollIntoView({ block: "nearest" });
  });
  const timeline = new Timeline((i) => choose(i, timeline));
  view.onfilter = (text, hits) => {
    search.value = text;
    found.textContent = hits === null ? "" : `${many(hits, "agent")} found`;
  };

  function showTree(group, k) {
    const tree = group.trees[k];
    [...tiles.children].forEach((tile, at) => tile.setAttribute("aria-pressed", String(at === k)));
    model = modelOf(tree);
    search.value = found.textContent = "";
    view.show(model);
    timeline.show(model);
    detail.show(model, 0);
    const trouble = model.trouble.filter(Boolean).length;
    next.disabled = trouble === 0;
    next.textContent = trouble ? `Next failure (${grouped.format(trouble)})` : "No failures";
    if (!performance.getEntriesByName("first-tree").length) performance.mark("first-tree");
  }
  function showGroup(k) {
    const group = { ...groups[k], trees: groups[k].trees.filter((tree) => tree.parent?.length) };
    const advantages = group.trees.map((tree) => Math.abs(tree.advantage?.[0] ?? 0));
    const scale = Math.max(1e-9, ...advantages);
    const credit = group.trees.some((tree) => tree.reward || tree.advantage);
    tiles.replaceChildren(...group.trees.map((tree, at) => treeTile(tree, at, scale, () => showTree(group, at))));
    source.replaceChildren(group.source ? el("code", {}, group.source) : "", credit ? "" : " Nothing was learned from these trees, so there are no rewards or advantages.");
    showTree(group, 0);
  }
  const button = (text, title, act) => el("button", { type: "button", title, onclick: act }, text);
  const next = button("Next failure", "Goes to the next agent that did not solve its task or was refused a launch", () => {
    const i = view.nextTrouble();
    if (i !== null) view.select(i);
  });
  host.append(
    el("div", { class: "controls" }, groups.length > 1 ? select("Group", groups.map((group, k) => [String(k), group.name]), "0", (k) => showGroup(Number(k))) : el("p", { class: "only" }, groups[0].name)),
    source, tiles, timeline.node,
    el("div", { class: "controls tools", role: "group", "aria-label": "Ways through the tree" },
      button("Expand all", "Opens every agent", () => view.openAll(true)), button("Collapse", "Closes all but the root", () => view.openAll(false)), next,
      button("Critical path", "Opens the tree along the critical path", () => {
        const path = [...model.order].filter((i) => model.critical[i]);
        view.openTo(path);
        if (path.length) view.select(path.at(-1));
      }),
      el("label", { class: "field grow" }, el("span", {}, "Filter"), search), found),
    el("div", { class: "split" }, view.node, detail.node));
  showGroup(0);
}

/// Light, dark, or as the system has it. What was chosen is kept where the browser allows a file to keep anything.
function setupTheme() {
  const button = document.getElementById("theme");
  const system = matchMedia("(prefers-color-scheme: dark)");
  const isDark = () => (document.documentElement.dataset.theme || (system.matches ? "dark" : "light")) === "dark";
  const apply = () => {
    button.textContent = isDark() ? "Light" : "Dark";
    button.setAttribute("aria-label", isDark() ? "Switch to light colours" : "Switch to dark colours");
    document.dispatchEvent(new Event("theme"));
  };
  try {
    const kept = localStorage.getItem("rao-theme");
    if (kept === "dark" || kept === "light") document.documentElement.dataset.theme = kept;
  } catch { /* The choice is then forgotten, no more. */ }
  button.addEventListener("click", () => {
    document.documentElement.dataset.theme = isDark() ? "light" : "dark";
    try {
      localStorage.setItem("rao-theme", document.documentElement.dataset.theme);
    } catch { /* As above. */ }
    apply();
  });
  system.addEventListener("change", apply);
  // On paper everything is light, and canvases must be drawn anew for it.
  let before;
  addEventListener("beforeprint", () => {
    before = document.documentElement.dataset.theme;
    document.documentElement.dataset.theme = "light";
    apply();
  });
  addEventListener("afterprint", () => {
    if (before) document.documentElement.dataset.theme = before;
    else delete document.documentElement.dataset.theme;
    apply();
  });
  apply();
}

setupTheme();
renderHeader();
// A section that cannot be drawn must not take the others with it.
for (const [id, render] of [["results", renderResults], ["curves", renderCurves], ["ablations", renderAblations], ["cost", renderCost], ["trees", renderTrees]]) {
  const host = document.querySelector(`#${id} > .body`);
  try {
    render(host);
  } catch (error) {
    console.error(error);
    host.replaceChildren(el("p", { class: "empty" }, `This section could not be drawn: ${error.message}`));
  }
}
document.documentElement.dataset.ready = "yes";
