// Reading the data, and what every section needs: elements, numbers as text, means over seeds, colours.

const DATA = JSON.parse(document.getElementById("data").textContent);

/// An element. Properties that exist on elements are set as such, others become attributes; children are elements or text. Text never
/// passes through a parser of markup: what agents said is in here, and nobody vouches for it.
function el(tag, props, ...children) {
  const node = document.createElement(tag);
  for (const [key, value] of Object.entries(props || {})) {
    if (value === null || value === undefined || value === false) continue;
    if (key.startsWith("on")) node.addEventListener(key.slice(2), value);
    else if (key === "class") node.className = value;
    else if (key === "css") for (const [name, v] of Object.entries(value)) node.style.setProperty(name, v);
    else node.setAttribute(key, value === true ? "" : value);
  }
  node.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== false));
  return node;
}

/// A mark from the symbols of the page. Without a label it is decoration.
function icon(name, label) {
  const space = "http://www.w3.org/2000/svg";
  const svg = document.createElementNS(space, "svg");
  svg.setAttribute("class", `icon i-${name}`);
  if (label) {
    svg.setAttribute("role", "img");
    svg.setAttribute("aria-label", label);
    const title = document.createElementNS(space, "title");
    title.textContent = label;
    svg.append(title);
  } else svg.setAttribute("aria-hidden", "true");
  const use = document.createElementNS(space, "use");
  use.setAttribute("href", `#i-${name}`);
  svg.append(use);
  return svg;
}

/// A labelled select. `options` are pairs of value and text.
function select(label, options, value, onchange) {
  const box = el("select", { onchange: () => onchange(box.value) }, options.map(([key, text]) => el("option", { value: key }, text)));
  box.value = value;
  return el("label", { class: "field" }, el("span", {}, label), box);
}

const isNumber = (x) => typeof x === "number" && Number.isFinite(x);
const NONE = "–";
const grouped = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });
const fine = new Intl.NumberFormat("en", { maximumFractionDigits: 1, minimumFractionDigits: 1 });

const show = {
  count: (x) => (isNumber(x) ? grouped.format(x) : NONE),
  /// A mean of counts: one decimal while it matters.
  mean: (x) => (!isNumber(x) ? NONE : Math.abs(x) < 100 && !Number.isInteger(x) ? fine.format(x) : grouped.format(x)),
  share: (x) => (isNumber(x) ? x.toFixed(2) : NONE),
  signed: (x) => (!isNumber(x) ? NONE : `${x < -0.0049 ? "−" : x > 0.0049 ? "+" : "±"}${Math.abs(x).toFixed(2)}`),
  plain: (x) => (!isNumber(x) ? NONE : Math.abs(x) >= 1000 ? grouped.format(x) : String(+x.toPrecision(3)).replace("-", "−")),
  seconds(x) {
    if (!isNumber(x)) return NONE;
    if (x === 0) return "0 s";
    if (x < 0.001) return `${+(x * 1e6).toPrecision(3)} µs`;
    if (x < 1) return `${+(x * 1e3).toPrecision(3)} ms`;
    if (x < 180) return `${+x.toPrecision(3)} s`;
    if (x < 3 * 3600) return `${+(x / 60).toPrecision(3)} min`;
    return `${+(x / 3600).toPrecision(3)} h`;
  },
  bytes(x) {
    if (!isNumber(x)) return NONE;
    return x < 1 << 30 ? `${grouped.format(x / (1 << 20))} MiB` : `${(x / (1 << 30)).toFixed(2)} GiB`;
  },
  /// A quantity that may be large: 1,234 or 12.3 M.
  amount: (x) => (!isNumber(x) ? NONE : x >= 1e6 ? `${+(x / 1e6).toPrecision(3)} M` : grouped.format(x)),
};

/// "1 agent", "2 agents".
const many = (n, one) => `${grouped.format(n)} ${one}${n === 1 ? "" : "s"}`;

/// Mean and range of the numbers among `values`; null when there is none.
function spread(values) {
  const numbers = (values || []).filter(isNumber);
  if (!numbers.length) return null;
  return {
    mean: numbers.reduce((a, b) => a + b, 0) / numbers.length,
    min: numbers.reduce((a, b) => Math.min(a, b)),
    max: numbers.reduce((a, b) => Math.max(a, b)),
    n: numbers.length,
  };
}

/// A mean with its range below it. The range is left out where nothing varies.
function spreadCell(s, format) {
  if (!s) return [el("span", { class: "none" }, NONE)];
  const [low, high] = [format(s.min), format(s.max)];
  return [el("span", { class: "mean" }, format(s.mean)), s.n > 1 && low !== high && el("span", { class: "range" }, `${low} to ${high}`)];
}

const cellOf = (arm) => arm.cell || arm.name;
/// The cells in the order of the data, and the one that others are compared with.
const CELLS = [...new Set((DATA.arms || []).map(cellOf))];
const BASE = CELLS.includes("base") ? "base" : CELLS[0];
// As many as style.css names; the next cells begin anew.
const COLOURS = 8;

/// The colour of an arm: one for each cell, so that an arm and its flat twin share it and the dash tells them apart.
const armColour = (arm) => `--arm-${CELLS.indexOf(cellOf(arm)) % COLOURS}`;

/// What a custom property is worth now, as a colour that a canvas takes. Asked of the browser, for it may depend on the theme.
const colour = (() => {
  const known = new Map();
  const probe = el("span", { hidden: true });
  document.body.append(probe);
  document.addEventListener("theme", () => known.clear());
  return (name) => {
    if (!known.has(name)) {
      probe.style.color = `var(${name})`;
      known.set(name, getComputedStyle(probe).color);
    }
    return known.get(name);
  };
})();

/// A colour of the form rgb(...) with another opacity.
const faded = (rgb, alpha) => rgb.replace(/^rgba?\(([^,]+,[^,]+,[^,)]+).*$/, `rgba($1, ${alpha})`);

/// Calls back at most once a frame, however often it is asked to.
function eachFrame(callback) {
  let asked = false;
  return () => {
    if (asked) return;
    asked = true;
    requestAnimationFrame(() => {
      asked = false;
      callback();
    });
  };
}

/// A table that scrolls within its own box, and by the keyboard.
function scrollTable(label, ...children) {
  return el("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": label }, el("table", {}, ...children));
}
