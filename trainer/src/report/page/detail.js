// One agent: everything that is known of it, and what it saw, said and returned.

const TURNS_AT_ONCE = 200;
const TEXT_AT_ONCE = 4000;
const SPEAKERS = { saw: "saw", said: "said", refused: "refused", restart: "began anew", returned: "returned" };

class DetailView {
  /// `onselect(node)` is asked for when another node is to be shown, `onback()` when the reader is done with this one.
  constructor(onselect, onback) {
    this.onselect = onselect;
    this.node = el("section", { class: "detail", "aria-label": "The selected agent", tabindex: "-1", onkeydown: (event) => event.key === "Escape" && onback() });
  }

  show(model, i) {
    this.node.replaceChildren(this.title(model, i), this.fields(model, i), this.links(model, i), this.transcript(model, i));
    this.node.scrollTop = 0;
  }

  title(m, i) {
    return el("header", {}, el("h3", { dir: "auto" }, m.task[i] || "(no task)"), el("p", { class: "state" }, icon(m.state[i]), STATES[m.state[i]], ![STATES[m.state[i]], "finished"].includes(String(m.status[i])) && el("span", { class: "soft" }, ` (${m.status[i]})`)));
  }

  fields(m, i) {
    const us = (x) => show.seconds(x / 1e6);
    const waited = m.end[i] - m.begin[i] - workOf(m, i).reduce((sum, [from, to]) => sum + to - from, 0);
    const pairs = [
      ["Success", show.share(m.success[i])],
      m.reward && ["Reward", show.share(m.reward[i]).replace("-", "−")],
      m.advantage && ["Advantage", show.signed(m.advantage[i])],
      m.weighted && ["Weighted", show.signed(m.weighted[i])],
      ["Sampled", many(m.sampled[i], "token")],
      ["Read", many(m.read[i], "token")],
      ["Lived", `${us(m.begin[i])} to ${us(m.end[i])}`],
      ["Of that waiting", us(Math.max(0, waited))],
      ["Depth", show.count(m.depth[i])],
      ["Agents below", show.count(m.inside[i])],
      ["Refused launches", show.count(m.refused[i])],
      ["Critical path", m.critical[i] ? "yes" : "no"],
    ].filter(Boolean);
    return el("dl", {}, pairs.map(([name, value]) => el("div", {}, el("dt", {}, name), el("dd", {}, value))));
  }

  links(m, i) {
    const to = (k, text) => el("button", { type: "button", class: "quiet", title: m.task[k], onclick: () => this.onselect(k) }, text);
    const [kids, place] = [kidCount(m, i), m.place[i]];
    const sibling = (by) => m.kids[m.first[m.parent[i]] + place + by];
    return el("p", { class: "links" }, i > 0 && to(m.parent[i], "Parent"), kids > 0 && to(m.kids[m.first[i]], "First child"),
      i > 0 && place > 0 && to(sibling(-1), "Previous sibling"), i > 0 && place + 1 < siblingsOf(m, i) && to(sibling(1), "Next sibling"));
  }

  transcript(m, i) {
    const turns = m.turns[i] || [];
    if (!turns.length) return el("p", { class: "empty" }, "No turns were recorded of this agent.");
    const list = el("ol", { class: "turns", "aria-label": "Turns" });
    const more = el("button", { type: "button", class: "quiet" });
    let shown = 0;
    const add = () => {
      list.append(...turns.slice(shown, shown + TURNS_AT_ONCE).map(turnRow));
      shown = Math.min(turns.length, shown + TURNS_AT_ONCE);
      more.hidden = shown === turns.length;
      more.textContent = `Show more of ${many(turns.length, "turn")}`;
    };
    more.addEventListener("click", add);
    add();
    return el("div", {}, list, more);
  }
}

function turnRow([kind, text]) {
  const words = String(text ?? "");
  const body = el("pre", { dir: "auto" }, words.slice(0, TEXT_AT_ONCE));
  const row = el("li", { class: `turn ${kind in SPEAKERS ? kind : "other"}` }, el("b", {}, SPEAKERS[kind] || String(kind)));
  if (words) row.append(body);
  else row.append(el("span", { class: "soft" }, kind === "restart" ? "with an empty context" : "nothing"));
  if (words.length > TEXT_AT_ONCE) {
    const all = el("button", { type: "button", class: "quiet", onclick: () => {
      body.textContent = words;
      all.remove();
    } }, `Show all ${grouped.format(words.length)} characters`);
    row.append(all);
  }
  return row;
}
