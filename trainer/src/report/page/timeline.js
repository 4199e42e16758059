// What ran at once: a bar per agent in lanes over time, and above them how many were at work. Drawn on a canvas, for there may be
// tens of thousands of bars.

const AXIS = 24;
const LOAD = 44;
const LANES_HEIGHT = 230;
const BAD = new Set(["failed", "truncated", "timed-out", "cancelled", "invalid", "unfinished"]);

class Timeline {
  constructor(onselect) {
    this.onselect = onselect;
    this.canvas = el("canvas", { tabindex: "0", role: "application", "aria-label": "Timeline of the agents", "aria-describedby": "timeline-help timeline-node" });
    this.readout = el("p", { id: "timeline-node", class: "readout", "aria-live": "polite" });
    this.summary = el("p", { class: "lead" });
    const button = (text, label, act) => el("button", { type: "button", "aria-label": label, title: label, onclick: act }, text);
    this.node = el("div", { class: "timeline" }, this.summary,
      el("div", { class: "frame" }, this.canvas,
        el("div", { class: "zoom" }, button("+", "Enlarge the timeline", () => this.zoom(0.5)), button("−", "Shrink the timeline", () => this.zoom(2)), button("All", "Show all of the timeline", () => this.reset()))),
      this.readout,
      el("p", { class: "legend-line" }, ...[["work", "at work"], ["wait", "waiting for children"], ["part", "partly solved"], ["bad", "not solved"], ["crit", "on the critical path"]].map(([key, text]) => el("span", {}, el("i", { class: `key ${key}` }), text)), el("span", { class: "soft", id: "timeline-help" }, "Drag to move; Ctrl and wheel, or + and −, to zoom. With the focus: arrow keys move, Page Up and Page Down go from agent to agent.")));
    this.paint = eachFrame(() => this.draw());
    this.listen();
    new ResizeObserver(this.paint).observe(this.canvas);
    document.addEventListener("theme", () => this.draw());
  }

  show(model) {
    // A trace without a clock has an order, but no times to draw.
    this.timed = model.end.some((time) => time > 0);
    for (const part of [...this.node.children].slice(1)) part.hidden = !this.timed;
    Object.assign(this, { model, selected: 0, hover: null }, packLanes(model), workOver(model));
    this.position = new Int32Array(model.n);
    this.order.forEach((i, k) => (this.position[i] = k));
    this.byLane = Array.from({ length: this.lanes }, () => []);
    for (const i of this.order) this.byLane[this.lane[i]].push(i);
    this.total = Math.max(1, model.tree.wall_us || 0, model.end.reduce((a, b) => Math.max(a, b), 0));
    this.laneHeight = Math.max(3, Math.min(14, Math.floor(LANES_HEIGHT / this.lanes)));
    this.lanesHeight = Math.min(this.lanes * this.laneHeight, Math.floor(LANES_HEIGHT / this.laneHeight) * this.laneHeight);
    this.canvas.style.height = `${LOAD + this.lanesHeight + AXIS}px`;
    this.summarise();
    this.reset();
  }

  summarise() {
    const { tree, n } = this.model;
    const sampled = this.model.sampled.reduce((a, b) => a + b, 0);
    const parts = [`${many(n, "agent")}, at most ${grouped.format(this.most)} at work at once.`];
    if (this.work > 0) parts.push(`${show.seconds(this.work / 1e6)} of work in ${show.seconds(this.total / 1e6)}: ${show.mean(this.work / this.total)} side by side on average.`);
    if (!this.timed) parts.splice(0, 1, `${many(n, "agent")}. No times were recorded, so there is no timeline.`);
    if (tree.critical_path > 0) parts.push(`The critical path is ${show.count(tree.critical_path)} of ${show.count(sampled)} sampled tokens${sampled > tree.critical_path ? `: with room for all, up to ${sampled < 10 * tree.critical_path ? fine.format(sampled / tree.critical_path) : grouped.format(sampled / tree.critical_path)} times faster than one after the other` : ""}.`);
    this.summary.textContent = parts.join(" ");
  }

  reset() {
    Object.assign(this, { from: 0, to: this.total, top: 0 });
    this.tell();
    this.paint();
  }

  select(i) {
    this.selected = i;
    const { begin, end } = this.model;
    const span = this.to - this.from;
    if (end[i] < this.from || begin[i] > this.to) this.move((begin[i] + end[i]) / 2 - this.from - span / 2, 0);
    const y = this.lane[i] * this.laneHeight;
    if (y < this.top) this.top = y;
    else if (y + this.laneHeight > this.top + this.lanesHeight) this.top = y + this.laneHeight - this.lanesHeight;
    this.tell();
    this.paint();
  }

  /// Says in words what is under the pointer, else what is selected.
  tell() {
    const m = this.model;
    const i = this.hover ?? this.selected;
    const us = (x) => show.seconds(x / 1e6);
    this.readout.replaceChildren(icon(m.state[i]), el("b", { dir: "auto" }, m.task[i] || "(no task)"), el("span", {}, `${STATES[m.state[i]]} · ${us(m.begin[i])} to ${us(m.end[i])} · ${many(m.sampled[i], "token")} sampled${m.critical[i] ? " · on the critical path" : ""}`));
  }

  x(time) {
    return ((time - this.from) / (this.to - this.from)) * this.width;
  }

  zoom(factor, at = (this.from + this.to) / 2) {
    const span = Math.max(Math.min(20, this.total), Math.min(this.total, (this.to - this.from) * factor));
    const share = (at - this.from) / (this.to - this.from);
    this.from = Math.max(0, Math.min(this.total - span, at - share * span));
    this.to = this.from + span;
    this.paint();
  }

  move(time, lanes) {
    const span = this.to - this.from;
    this.from = Math.max(0, Math.min(this.total - span, this.from + time));
    this.to = this.from + span;
    this.top = Math.max(0, Math.min(this.lanes * this.laneHeight - this.lanesHeight, this.top + lanes));
    this.paint();
  }

  /// The node at a point of the canvas; bars thinner than a finger are found from a little beside them.
  nodeAt(x, y) {
    if (y < LOAD || y > LOAD + this.lanesHeight) return null;
    const lane = this.byLane[Math.floor((y - LOAD + this.top) / this.laneHeight)];
    if (!lane) return null;
    let best = null;
    let distance = 4;
    for (const i of lane) {
      const [from, to] = [this.x(this.model.begin[i]), this.x(this.model.end[i])];
      const d = Math.max(0, from - x, x - to);
      if (d < distance) [best, distance] = [i, d];
      if (from > x + 4) break;
    }
    return best;
  }

  listen() {
    const canvas = this.canvas;
    let drag = null;
    const point = (event) => {
      const box = canvas.getBoundingClientRect();
      return [event.clientX - box.left, event.clientY - box.top];
    };
    const hover = (i) => {
      if (i === this.hover) return;
      this.hover = i;
      canvas.style.cursor = i === null ? "grab" : "pointer";
      this.tell();
      this.paint();
    };
    canvas.addEventListener("pointerdown", (event) => {
      if (event.button !== 0) return;
      drag = { at: point(event), moved: false };
      canvas.setPointerCapture(event.pointerId);
    });
    canvas.addEventListener("pointermove", (event) => {
      const [x, y] = point(event);
      if (!drag) return hover(this.nodeAt(x, y));
      const [dx, dy] = [x - drag.at[0], y - drag.at[1]];
      if (!drag.moved && Math.hypot(dx, dy) < 4) return;
      Object.assign(drag, { moved: true, at: [x, y] });
      this.move((-dx * (this.to - this.from)) / this.width, -dy);
    });
    canvas.addEventListener("pointerup", (event) => {
      const found = drag && !drag.moved ? this.nodeAt(...point(event)) : null;
      drag = null;
      if (found !== null) this.onselect(found);
    });
    canvas.addEventListener("pointercancel", () => (drag = null));
    canvas.addEventListener("pointerleave", () => hover(null));
    canvas.addEventListener("wheel", (event) => {
      // Without Ctrl or the focus the wheel belongs to the page, or nobody could scroll past.
      if (!event.ctrlKey && document.activeElement !== canvas) return;
      event.preventDefault();
      if (event.shiftKey) this.move(0, event.deltaY || event.deltaX);
      else this.zoom(Math.exp(event.deltaY * 0.002), this.from + (point(event)[0] / this.width) * (this.to - this.from));
    }, { passive: false });
    canvas.addEventListener("keydown", (event) => this.key(event));
  }

  key(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const span = this.to - this.from;
    const near = (by) => this.onselect(this.order[Math.max(0, Math.min(this.model.n - 1, this.position[this.selected] + by))]);
    const act = {
      "+": () => this.zoom(0.5), "=": () => this.zoom(0.5), "-": () => this.zoom(2), 0: () => this.reset(),
      ArrowLeft: () => this.move(-span / 8, 0), ArrowRight: () => this.move(span / 8, 0),
      ArrowUp: () => this.move(0, -3 * this.laneHeight), ArrowDown: () => this.move(0, 3 * this.laneHeight),
      PageUp: () => near(-1), PageDown: () => near(1), Home: () => near(-this.model.n), End: () => near(this.model.n),
    }[event.key];
    if (!act) return;
    event.preventDefault();
    act();
  }

  draw() {
    if (!this.model || !this.canvas.clientWidth) return;
    const scale = window.devicePixelRatio || 1;
    const [width, height] = [this.canvas.clientWidth, this.canvas.clientHeight];
    this.width = width;
    if (this.canvas.width !== Math.round(width * scale) || this.canvas.height !== Math.round(height * scale)) {
      this.canvas.width = Math.round(width * scale);
      this.canvas.height = Math.round(height * scale);
    }
    const c = this.canvas.getContext("2d");
    c.setTransform(scale, 0, 0, scale, 0, 0);
    c.clearRect(0, 0, width, height);
    this.drawAxis(c, height);
    this.drawLoad(c);
    c.save();
    c.beginPath();
    c.rect(0, LOAD, width, this.lanesHeight);
    c.clip();
    this.drawBars(c);
    c.restore();
    this.drawScrollbar(c);
  }

  drawAxis(c, height) {
    const span = this.to - this.from;
    const rough = span / Math.max(2, this.width / 110);
    const power = 10 ** Math.floor(Math.log10(rough));
    const step = [1, 2, 5, 10].map((k) => k * power).find((s) => s >= rough);
    c.font = "11.5px system-ui, sans-serif";
    c.textBaseline = "middle";
    for (let t = Math.ceil(this.from / step) * step; t <= this.to; t += step) {
      const x = Math.round(this.x(t)) + 0.5;
      c.strokeStyle = colour("--line");
      c.beginPath();
      c.moveTo(x, 0);
      c.lineTo(x, height - AXIS + 4);
      c.stroke();
      c.fillStyle = colour("--soft");
      const text = show.seconds(Math.round(t * 1000) / 1e9);
      const wide = c.measureText(text).width;
      c.fillText(text, Math.max(0, Math.min(this.width - wide, x - wide / 2)), height - AXIS / 2 + 2);
    }
  }

  /// The number of agents at work, as an area above the lanes.
  drawLoad(c) {
    const y = (n) => LOAD - 8 - (n / Math.max(1, this.most)) * (LOAD - 14);
    c.beginPath();
    c.moveTo(this.x(0), y(0));
    let last = 0;
    for (const [time, n] of this.steps) {
      const x = Math.max(-10, Math.min(this.width + 10, this.x(time)));
      c.lineTo(x, y(last));
      c.lineTo(x, y(n));
      last = n;
    }
    c.strokeStyle = colour("--accent");
    c.lineWidth = 1.25;
    c.stroke();
    c.lineTo(Math.min(this.width + 10, this.x(this.total)), y(0));
    c.fillStyle = faded(colour("--accent"), 0.15);
    c.fill();
    c.lineWidth = 1;
    const text = `at work: up to ${grouped.format(this.most)}`;
    c.font = "11.5px system-ui, sans-serif";
    const wide = c.measureText(text).width;
    c.fillStyle = colour("--card");
    c.fillRect(this.width - wide - 12, 2, wide + 10, 16);
    c.fillStyle = colour("--soft");
    c.fillText(text, this.width - wide - 7, 10);
  }

  drawBars(c) {
    const m = this.model;
    const shades = { work: colour("--bar"), wait: faded(colour("--bar"), 0.28), bad: colour("--s-failed"), badWait: faded(colour("--s-failed"), 0.25), part: colour("--s-partial"), partWait: faded(colour("--s-partial"), 0.28), ink: colour("--ink"), on: colour("--on-bar"), hatch: this.hatch(c) };
    const gap = this.laneHeight > 5 ? 2 : this.laneHeight > 3 ? 1 : 0;
    const firstLane = Math.floor(this.top / this.laneHeight);
    const lastLane = Math.min(this.lanes - 1, Math.ceil((this.top + this.lanesHeight) / this.laneHeight));
    const marked = [];
    for (let lane = firstLane; lane <= lastLane; lane++) {
      const y = LOAD + lane * this.laneHeight - this.top;
      for (const i of this.byLane[lane]) {
        if (m.end[i] < this.from) continue;
        if (m.begin[i] > this.to) break;
        const box = [Math.max(-4, this.x(m.begin[i])), y + gap / 2, 0, this.laneHeight - gap];
        box[2] = Math.max(1, Math.min(this.width + 4, this.x(m.end[i])) - box[0]);
        this.drawBar(c, i, box, shades);
        if (m.critical[i] || i === this.selected || i === this.hover) marked.push([i, box]);
      }
    }
    // Marks come last, or a neighbour's bar would cover them.
    for (const [i, [x, y, w, h]] of marked) {
      c.lineWidth = i === this.selected ? 3 : this.laneHeight > 6 ? 1.75 : 1;
      c.strokeStyle = i === this.selected || i === this.hover ? colour("--accent") : shades.ink;
      c.strokeRect(x, y, Math.max(2, w), h);
      if (i === this.selected && w < 8) this.pointAt(c, x + w / 2, y);
    }
    c.lineWidth = 1;
  }

  drawBar(c, i, [x, y, w, h], shades) {
    const m = this.model;
    const kind = BAD.has(m.state[i]) ? "bad" : m.state[i] === "partial" ? "part" : "work";
    c.fillStyle = kind === "work" ? shades.wait : shades[`${kind}Wait`];
    c.fillRect(x, y, w, h);
    c.fillStyle = shades[kind];
    for (const [from, to] of w < 2 ? [[m.begin[i], m.end[i]]] : workOf(m, i)) {
      const a = Math.max(-4, this.x(from));
      const width = Math.max(1, Math.min(this.width + 4, this.x(to)) - a);
      if (a < this.width + 4 && width > 0) c.fillRect(a, y, width, h);
    }
    if (kind !== "work" && h >= 3 && w >= 4) {
      c.fillStyle = shades.hatch;
      c.fillRect(x, y, w, h);
    }
    // A name only where it is certain to be read: on one plain stretch that is long enough.
    if (kind === "work" && h >= 11 && w > 40 && !(m.waits[i] || []).length) {
      c.fillStyle = shades.on;
      c.font = "10px ui-monospace, Menlo, Consolas, monospace";
      const letters = Math.floor((w - 8) / 6.1);
      if (m.task[i].length <= letters) c.fillText(m.task[i], Math.max(0, x) + 4, y + h / 2 + 0.5);
    }
  }

  /// Stripes that tell failures from the rest without colour.
  hatch(c) {
    const tile = el("canvas", { width: 6, height: 6 });
    const t = tile.getContext("2d");
    t.strokeStyle = faded(colour("--card"), 0.75);
    t.lineWidth = 1.6;
    t.beginPath();
    for (const k of [-6, 0, 6]) {
      t.moveTo(k - 1, 7);
      t.lineTo(k + 7, -1);
    }
    t.stroke();
    return c.createPattern(tile, "repeat");
  }

  /// A small wedge above a bar that is too thin to be found.
  pointAt(c, x, y) {
    c.fillStyle = colour("--accent");
    c.beginPath();
    c.moveTo(x, y - 1);
    c.lineTo(x - 5, y - 8);
    c.lineTo(x + 5, y - 8);
    c.fill();
  }

  drawScrollbar(c) {
    const all = this.lanes * this.laneHeight;
    if (all <= this.lanesHeight) return;
    c.fillStyle = faded(colour("--soft"), 0.5);
    c.fillRect(this.width - 5, LOAD + (this.top / all) * this.lanesHeight, 4, Math.max(12, (this.lanesHeight / all) * this.lanesHeight));
  }
}
