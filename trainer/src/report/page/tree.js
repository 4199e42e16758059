// The tree of agents as rows. Only rows in sight exist as elements, so that ten thousand agents open as fast as ten.

const ROW = 30;
// Rows beyond the edges of the view, so that scrolling does not show gaps.
const MARGIN = 12;
// A tree is opened this far at first: level by level, while it stays easy to take in.
const OPEN_AT_FIRST = 60;

class TreeView {
  /// `onselect(node)` hears of every selection made here, `onopen(node)` of a wish to read a node.
  constructor(onselect, onopen) {
    this.onselect = onselect;
    this.onopen = onopen;
    this.rows = new Map();
    this.canvas = el("div", { class: "canvas", role: "tree", "aria-label": "Agents of this tree" });
    this.view = el("div", { class: "view" }, this.canvas);
    this.head = el("div", { class: "row head", "aria-hidden": "true" });
    this.node = el("div", { class: "tree" }, this.head, this.view);
    this.paint = eachFrame(() => this.render());
    this.view.addEventListener("scroll", this.paint, { passive: true });
    this.canvas.addEventListener("click", (event) => this.click(event));
    this.canvas.addEventListener("dblclick", (event) => this.click(event, true));
    this.canvas.addEventListener("keydown", (event) => this.key(event));
    // A row that only the focus kept alive may go once the focus has left.
    this.canvas.addEventListener("focusout", this.paint);
    new ResizeObserver(this.paint).observe(this.view);
  }

  show(model) {
    this.model = model;
    this.open = new Uint8Array(model.n);
    this.keep = null;
    this.folded = new Set();
    this.active = 0;
    this.scale = Math.max(1e-9, spread(model.advantage || [])?.max ?? 0, -(spread(model.advantage || [])?.min ?? 0));
    this.node.classList.toggle("no-credit", !model.reward && !model.advantage);
    this.head.replaceChildren(...["Agent and task", "Success", "Reward", "Advantage", "Tokens", "Time"].map((text, i) => el("span", { class: i ? `number ${["", "c-success", "c-reward", "c-advantage", "c-tokens", "c-time"][i]}` : null }, text)));
    let frontier = [0];
    for (let total = 1; frontier.length; ) {
      const below = frontier.flatMap((i) => (kidCount(model, i) > OPEN_AT_FIRST ? [] : [...model.kids.subarray(model.first[i], model.first[i + 1])]));
      total += below.length;
      if (total > OPEN_AT_FIRST && frontier[0] !== 0) break;
      for (const i of frontier) this.open[i] = kidCount(model, i) && (i === 0 || kidCount(model, i) <= OPEN_AT_FIRST) ? 1 : 0;
      frontier = below;
    }
    this.view.scrollTop = 0;
    this.layout();
  }

  isOpen(i) {
    return this.keep ? !this.folded.has(i) : this.open[i] === 1;
  }

  /// Lists the rows that are to be seen, in reading order. A closed node is stepped over with all that is below it.
  layout() {
    const { n, order, rank, inside } = this.model;
    const seen = new Int32Array(n);
    let count = 0;
    this.at = new Int32Array(n).fill(-1);
    for (let k = 0; k < n; ) {
      const i = order[k];
      if (this.keep && !this.keep[i]) {
        k = rank[i] + inside[i] + 1;
        continue;
      }
      this.at[i] = count;
      seen[count++] = i;
      k += this.isOpen(i) ? 1 : inside[i] + 1;
    }
    this.seen = seen.subarray(0, count);
    if (this.at[this.active] < 0) this.active = this.shownAbove(this.active);
    this.canvas.style.height = `${count * ROW}px`;
    for (const row of this.rows.values()) row.remove();
    this.rows.clear();
    this.render();
  }

  /// The nearest node above that is shown; with a filter that nothing passes, the root.
  shownAbove(i) {
    while (i > 0 && this.at[i] < 0) i = this.model.parent[i];
    return this.at[i] < 0 && this.seen.length ? this.seen[0] : i;
  }

  render() {
    if (!this.model) return;
    const from = Math.max(0, Math.floor(this.view.scrollTop / ROW) - MARGIN);
    const to = Math.min(this.seen.length, Math.ceil((this.view.scrollTop + this.view.clientHeight) / ROW) + MARGIN);
    const wanted = new Set(this.seen.subarray(from, to));
    // The active row stays, wherever it is: the focus must not be lost by scrolling, and Tab must find it.
    if (this.at[this.active] >= 0) wanted.add(this.active);
    for (const [i, row] of this.rows) {
      if (wanted.has(i)) continue;
      row.remove();
      this.rows.delete(i);
    }
    // In reading order, for those who hear the page. Rows that are there already are in order, so none of them moves.
    let next = this.canvas.firstChild;
    for (const i of [...wanted].sort((a, b) => this.at[a] - this.at[b])) {
      if (this.rows.has(i)) {
        next = this.rows.get(i).nextSibling;
        continue;
      }
      const row = this.row(i);
      this.rows.set(i, row);
      this.canvas.insertBefore(row, next);
    }
  }

  row(i) {
    const m = this.model;
    const kids = kidCount(m, i);
    const state = STATES[m.state[i]];
    const below = kids && m.troubleInside[i] && !this.isOpen(i) ? m.troubleInside[i] : 0;
    const name = m.task[i] || "(no task)";
    const said = [name, state, isNumber(m.success[i]) && `success ${show.share(m.success[i])}`, m.advantage && `advantage ${show.signed(m.advantage[i])}`, m.critical[i] && "on the critical path", m.refused[i] > 0 && `${m.refused[i]} refused`, kids > 0 && `${many(m.inside[i], "agent")} below`].filter(Boolean).join(", ");
    const row = el("div", {
      class: ["row", m.critical[i] && "critical", m.trouble[i] && "trouble", i === this.active && "active"].filter(Boolean).join(" "), role: "treeitem", id: `node-${i}`, "aria-label": said,
      "aria-level": m.depth[i] + 1, "aria-setsize": siblingsOf(m, i), "aria-posinset": m.place[i] + 1, "aria-selected": String(i === this.active), "aria-expanded": kids ? String(this.isOpen(i)) : null,
      tabindex: i === this.active ? "0" : "-1", css: { top: `${this.at[i] * ROW}px`, "--depth": String(Math.min(m.depth[i], 10)), "--deeper": String(Math.max(0, m.depth[i] - 10)) },
    },
      el("span", { class: "agent" }, el("span", { class: "indent" }), el("span", { class: kids ? "expander" : "expander none" }, kids > 0 && icon("open")), icon(m.state[i], state),
        el("span", { class: "task", title: name, dir: "auto" }, name),
        m.critical[i] && icon("critical", "on the critical path"),
        m.refused[i] > 0 && el("span", { class: "badge warn" }, `${m.refused[i]} refused`),
        kids > 0 && el("span", { class: "badge" }, grouped.format(kids)),
        below > 0 && el("span", { class: "badge bad", title: "Below: agents that did not solve their task, or were refused a launch" }, `${grouped.format(below)} below`)),
      el("span", { class: "number c-success" }, show.share(m.success[i])),
      el("span", { class: "number c-reward" }, show.share(m.reward?.[i]).replace("-", "−")),
      el("span", { class: "number c-advantage" }, m.advantage && advantageChip(m.advantage[i], this.scale)),
      el("span", { class: "number c-tokens", title: "sampled / read" }, `${show.count(m.sampled[i])} / ${show.count(m.read[i])}`),
      el("span", { class: "number c-time" }, show.seconds((m.end[i] - m.begin[i]) / 1e6)));
    row.node = i;
    return row;
  }

  click(event, twice) {
    const row = event.target.closest("[role=treeitem]");
    if (!row) return;
    const onExpander = event.target.closest(".expander:not(.none)");
    if (twice) return onExpander ? undefined : this.toggle(row.node, !this.isOpen(row.node));
    if (onExpander) this.toggle(row.node, !this.isOpen(row.node));
    this.select(row.node, { focus: true });
  }

  key(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const m = this.model;
    const i = this.active;
    const step = (by) => this.select(this.seen[Math.max(0, Math.min(this.seen.length - 1, this.at[i] + by))], { focus: true });
    const page = Math.max(1, Math.floor(this.view.clientHeight / ROW) - 1);
    const act = {
      ArrowDown: () => step(1),
      ArrowUp: () => step(-1),
      PageDown: () => step(page),
      PageUp: () => step(-page),
      Home: () => step(-m.n),
      End: () => step(m.n),
      ArrowRight: () => kidCount(m, i) && (this.isOpen(i) ? step(1) : this.toggle(i, true)),
      ArrowLeft: () => (kidCount(m, i) && this.isOpen(i) ? this.toggle(i, false) : i > 0 && this.select(m.parent[i], { focus: true })),
      Enter: () => this.onopen(i),
      " ": () => this.toggle(i, !this.isOpen(i)),
      "*": () => this.openSiblings(i),
    }[event.key];
    if (!act) return;
    event.preventDefault();
    act();
  }

  toggle(i, open) {
    if (!kidCount(this.model, i)) return;
    this.open[i] = open ? 1 : 0;
    this.folded[open ? "delete" : "add"](i);
    this.relayout();
  }

  openSiblings(i) {
    const m = this.model;
    const siblings = i === 0 ? [0] : m.kids.subarray(m.first[m.parent[i]], m.first[m.parent[i] + 1]);
    for (const k of siblings) this.open[k] = 1;
    this.relayout();
  }

  /// Lays out anew without losing the focus, where it was in here.
  relayout() {
    const focused = this.canvas.contains(document.activeElement);
    this.layout();
    if (focused) this.rows.get(this.active)?.focus({ preventScroll: true });
  }

  openAll(open) {
    this.open.fill(open ? 1 : 0);
    this.open[0] = 1;
    this.folded.clear();
    this.layout();
    this.reveal(this.active);
  }

  openTo(nodes) {
    for (const node of nodes) for (let i = this.model.parent[node]; i >= 0; i = this.model.parent[i]) {
      this.open[i] = 1;
      this.folded.delete(i);
    }
    this.relayout();
  }

  /// Makes a node the active one, opening what hides it. `quiet` leaves out telling others, who said so themselves.
  select(i, { focus = false, quiet = false } = {}) {
    if (this.at[i] < 0 && this.keep && !this.keep[i]) this.filter("");
    if (this.at[i] < 0) this.openTo([i]);
    const before = this.active;
    this.active = i;
    for (const k of [before, i]) {
      const row = this.rows.get(k);
      if (!row) continue;
      row.classList.toggle("active", k === i);
      row.setAttribute("aria-selected", String(k === i));
      row.tabIndex = k === i ? 0 : -1;
    }
    this.reveal(i);
    if (focus) this.rows.get(i)?.focus({ preventScroll: true });
    if (!quiet) this.onselect(i);
  }

  reveal(i) {
    const top = this.at[i] * ROW;
    const [from, height] = [this.view.scrollTop, this.view.clientHeight];
    if (top < from) this.view.scrollTop = top - ROW;
    else if (top + ROW > from + height) this.view.scrollTop = top - height + 2 * ROW;
    this.render();
  }

  /// The next node in reading order that is in trouble, from the top again after the last one; null where there is none.
  nextTrouble() {
    const { n, order, rank, trouble } = this.model;
    for (let k = 1; k <= n; k++) {
      const i = order[(rank[this.active] + k) % n];
      if (trouble[i]) return i;
    }
    return null;
  }

  /// Shows only nodes whose task, status or turns hold `text`, and what is above them. Returns how many there are; null without a filter.
  filter(text) {
    const m = this.model;
    const wanted = text.trim().toLowerCase();
    this.folded.clear();
    this.keep = null;
    let found = null;
    if (wanted) {
      this.keep = new Uint8Array(m.n);
      found = 0;
      for (let i = m.n - 1; i >= 0; i--) {
        const hit = [m.task[i], m.status[i], STATES[m.state[i]]].some((s) => String(s).toLowerCase().includes(wanted)) || (m.turns[i] || []).some((turn) => String(turn[1]).toLowerCase().includes(wanted));
        if (hit) found++;
        if (hit) this.keep[i] = 1;
        if (this.keep[i] && i > 0) this.keep[m.parent[i]] = 1;
      }
    }
    this.layout();
    this.reveal(this.active);
    this.onfilter?.(text, found);
    return found;
  }
}

/// A number on a tint: one hue above zero, another below, stronger the further from it.
function advantageChip(x, scale) {
  if (!isNumber(x)) return el("span", { class: "none" }, NONE);
  return el("span", { class: `chip ${x < 0 ? "below" : "above"}`, css: { "--k": `${Math.round(Math.min(1, Math.abs(x) / scale) * 100)}` } }, show.signed(x));
}
