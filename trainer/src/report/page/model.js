// A tree as columns, and what is derived from them once: children, states, subtrees, lanes. Every pass is a loop over arrays, since a
// parent comes before its children; nothing recurses, so depth has no limit.

/// How a node ended, in the words and marks of this page.
const STATES = {
  solved: "solved",
  partial: "partly solved",
  failed: "failed",
  truncated: "stopped by a limit",
  "timed-out": "timed out",
  cancelled: "cancelled",
  invalid: "invalid",
  unfinished: "unfinished",
  unjudged: "finished, not judged",
};
const STATE_NAMES = Object.keys(STATES);

function stateOf(status, success) {
  const text = String(status).toLowerCase();
  if (text.startsWith("finished")) return !isNumber(success) ? "unjudged" : success >= 1 ? "solved" : success > 0 ? "partial" : "failed";
  if (text.startsWith("truncated")) return "truncated";
  if (text.startsWith("timed")) return "timed-out";
  if (text.startsWith("cancel")) return "cancelled";
  if (text.startsWith("invalid")) return "invalid";
  if (text.startsWith("unfinished")) return "unfinished";
  return "failed";
}

/// The success of every node. `success` by itself may also be the tree's one figure.
const successOf = (tree) => [tree.success_of, tree.success].find(Array.isArray) || new Array(tree.parent.length).fill(null);

/// A tree with what the views ask of it.
function modelOf(tree) {
  const n = tree.parent.length;
  const column = (name, fallback) => (Array.isArray(tree[name]) ? tree[name] : new Array(n).fill(fallback));
  const model = {
    // Whatever has no parent but is not the root came from a damaged trace: it is shown below the root.
    tree, n, parent: tree.parent.map((p, i) => (i > 0 && p < 0 ? 0 : p)), depth: column("depth", 0), task: column("task_of", ""), status: column("status", "unfinished"), success: successOf(tree),
    reward: tree.reward, advantage: tree.advantage, weighted: tree.weighted, sampled: column("sampled", 0), read: column("read", 0),
    begin: column("begin_us", 0), end: column("end_us", 0), waits: column("waits", []), refused: column("refused", 0), critical: column("critical", false), turns: column("turns", []),
  };
  model.state = model.status.map((status, i) => stateOf(status, model.success[i]));
  model.trouble = model.state.map((state, i) => (state !== "solved" && state !== "unjudged") || model.refused[i] > 0);
  linkChildren(model);
  return model;
}

/// Children of node i are `kids[first[i]]` up to `kids[first[i + 1]]`; `order` is the tree in reading order, `inside` counts what is below.
function linkChildren(model) {
  const { n, parent } = model;
  const first = new Int32Array(n + 1);
  for (let i = 1; i < n; i++) first[parent[i] + 1] += parent[i] >= 0 ? 1 : 0;
  for (let i = 0; i < n; i++) first[i + 1] += first[i];
  const kids = new Int32Array(Math.max(0, n - 1));
  const next = first.slice();
  const place = new Int32Array(n);
  for (let i = 1; i < n; i++) {
    if (parent[i] < 0) continue;
    place[i] = next[parent[i]] - first[parent[i]];
    kids[next[parent[i]]++] = i;
  }
  const inside = new Int32Array(n);
  const troubleInside = new Int32Array(n);
  for (let i = n - 1; i > 0; i--) {
    if (parent[i] < 0) continue;
    inside[parent[i]] += inside[i] + 1;
    troubleInside[parent[i]] += troubleInside[i] + (model.trouble[i] ? 1 : 0);
  }
  const order = new Int32Array(n);
  const rank = new Int32Array(n);
  for (let i = 1; i < n; i++) {
    // Right after the parent, and after all earlier siblings with what is below them.
    const siblings = place[i] === 0 ? 0 : rank[kids[first[parent[i]] + place[i] - 1]] - rank[parent[i]] + inside[kids[first[parent[i]] + place[i] - 1]];
    rank[i] = rank[parent[i]] + siblings + 1;
  }
  for (let i = 0; i < n; i++) order[rank[i]] = i;
  Object.assign(model, { first, kids, place, inside, troubleInside, order, rank });
}

const kidCount = (model, i) => model.first[i + 1] - model.first[i];
const siblingsOf = (model, i) => (model.parent[i] < 0 ? 1 : kidCount(model, model.parent[i]));

/// A lane for every node, so that nodes of one lane never overlap in time. The critical path has the topmost lanes to itself: among
/// thousands of lanes it would be lost.
function packLanes(model) {
  const order = Array.from({ length: model.n }, (_, i) => i).sort((a, b) => model.begin[a] - model.begin[b] || model.rank[a] - model.rank[b]);
  const lane = new Int32Array(model.n);
  const critical = packInto(model, lane, order.filter((i) => model.critical[i]), 0);
  const lanes = packInto(model, lane, order.filter((i) => !model.critical[i]), critical);
  return { lane, lanes, order };
}

/// Gives each node, by its beginning, the lowest lane from `lanes` on that is free then. Returns the lane after the last one.
function packInto({ begin, end }, lane, nodes, lanes) {
  const free = heap((a, b) => a - b);
  const busy = heap((a, b) => a[0] - b[0] || a[1] - b[1]);
  for (const i of nodes) {
    while (busy.size() && busy.top()[0] <= begin[i]) free.push(busy.pop()[1]);
    lane[i] = free.size() ? free.pop() : lanes++;
    // A node without length still takes its place for a moment, or nodes would be drawn on each other.
    busy.push([Math.max(end[i], begin[i] + 1), lane[i]]);
  }
  return lanes;
}

function heap(order) {
  const items = [];
  const swap = (a, b) => ([items[a], items[b]] = [items[b], items[a]]);
  return {
    size: () => items.length,
    top: () => items[0],
    push(item) {
      let i = items.push(item) - 1;
      while (i > 0 && order(items[i], items[(i - 1) >> 1]) < 0) {
        swap(i, (i - 1) >> 1);
        i = (i - 1) >> 1;
      }
    },
    pop() {
      const top = items[0];
      const last = items.pop();
      if (!items.length) return top;
      items[0] = last;
      for (let i = 0; ; ) {
        let least = i;
        for (const k of [2 * i + 1, 2 * i + 2]) if (k < items.length && order(items[k], items[least]) < 0) least = k;
        if (least === i) return top;
        swap(i, least);
        i = least;
      }
    },
  };
}

/// How many nodes were at work, that is alive and not waiting, as steps over time; the most at once; and the time worked by all together.
function workOver(model) {
  const changes = [];
  let work = 0;
  for (let i = 0; i < model.n; i++) {
    for (const [from, to] of workOf(model, i)) {
      changes.push([from, 1], [to, -1]);
      work += to - from;
    }
  }
  changes.sort((a, b) => a[0] - b[0] || a[1] - b[1]);
  const steps = [];
  let [now, most] = [0, 0];
  for (let k = 0; k < changes.length; k++) {
    now += changes[k][1];
    most = Math.max(most, now);
    if (k + 1 === changes.length || changes[k + 1][0] !== changes[k][0]) steps.push([changes[k][0], now]);
  }
  return { steps, most, work };
}

/// The stretches in which a node worked: its life less its waits.
function workOf(model, i) {
  const waits = model.waits[i] || [];
  const stretches = [];
  let from = model.begin[i];
  for (let k = 0; k + 1 < waits.length; k += 2) {
    if (waits[k] > from) stretches.push([from, waits[k]]);
    from = Math.max(from, waits[k + 1]);
  }
  if (model.end[i] > from) stretches.push([from, model.end[i]]);
  return stretches;
}
