// Charts as SVG: lines over the last minutes, and shares stacked over time.

import { el, svg } from "./dom.js";
import { ago } from "./words.js";

const WIDTH = 1000;
const HEIGHT = 100;
const LEAST_S = 30;
const MOST_S = 300;

/** How many seconds a chart spans: what there is, between half a minute and five. */
export function span(rows, now) {
  return rows.length ? Math.min(MOST_S, Math.max(LEAST_S, now - rows[0][0])) : LEAST_S;
}

/** The next round number: a few steps for each power of ten. */
function roundUp(value, least) {
  const wanted = Math.max(value, least);
  const power = 10 ** Math.floor(Math.log10(wanted));
  return [1, 1.5, 2, 3, 4, 5, 6, 8, 10].map((step) => step * power).find((step) => step >= wanted * 0.999);
}

const place = (number) => number.toFixed(1);

function line(rows, valueOf, x, y) {
  let path = "";
  let open = false;
  for (const row of rows) {
    const value = valueOf(row);
    if (value === null) {
      open = false;
      continue;
    }
    path += `${open ? "L" : "M"}${place(x(row[0]))} ${place(y(value))}`;
    if (!open) path += "h.1"; // a value alone is a dot
    open = true;
  }
  return path;
}

/** Lines of `series` ({name, className, valueOf}) in a figure; the first one is filled below where `area`. */
export class LineChart {
  constructor(figure, { about, series, area, least, show, read }) {
    this.options = { about, series, area, least, show, read };
    this.rows = [];
    this.at = null;
    this.drawing = svg("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: "none", role: "img" });
    this.grid = svg("path", { class: "grid", d: `M0 8H${WIDTH}M0 ${HEIGHT - 1}H${WIDTH}` });
    this.area = svg("path", { class: "area" });
    this.cursor = svg("path", { class: "cursor" });
    this.lines = series.map((one) => svg("path", { class: one.className }));
    this.drawing.append(this.grid, ...(area ? [this.area] : []), ...this.lines, this.cursor);
    this.top = el("span", "top-value");
    this.from = el("span", "");
    const axis = el("div", "axis", this.from, el("span", "", "now"));
    axis.ariaHidden = "true";
    this.top.ariaHidden = "true";
    figure.append(el("div", "plot", this.drawing, this.top), axis);
    this.drawing.addEventListener("pointermove", (event) => this.point(event));
    this.drawing.addEventListener("pointerleave", () => this.unpoint());
  }

  /** Draw rows ([time, ...], oldest first) up to `now`, in Unix seconds. */
  update(rows, now) {
    const { about, series, area, least, show } = this.options;
    Object.assign(this, { rows, now, spanned: span(rows, now) });
    const values = rows.flatMap((row) => series.map((one) => one.valueOf(row))).filter((value) => value !== null);
    const most = roundUp(Math.max(0, ...values), least);
    const x = (time) => WIDTH * (1 - (now - time) / this.spanned);
    const y = (value) => HEIGHT - 1 - (HEIGHT - 9) * (value / most);
    series.forEach((one, i) => this.lines[i].setAttribute("d", line(rows, one.valueOf, x, y)));
    if (area) {
      const path = rows.length ? line(rows, series[0].valueOf, x, y) : "";
      const closed = path && `${path}L${place(x(rows.at(-1)[0]))} ${HEIGHT}L${place(x(rows[0][0]))} ${HEIGHT}Z`;
      this.area.setAttribute("d", closed);
    }
    this.top.textContent = show(most);
    this.from.textContent = `${ago(this.spanned)} ago`;
    this.drawing.ariaLabel = `${about}, over the last ${ago(this.spanned)}: now ${this.read(this.last())}`;
    this.tell();
  }

  last() {
    return this.rows.at(-1) ?? null;
  }

  read(row) {
    return this.options.read(row);
  }

  point(event) {
    const box = this.drawing.getBoundingClientRect();
    this.at = (event.clientX - box.left) / box.width;
    this.tell();
  }

  unpoint() {
    this.at = null;
    this.tell();
  }

  /** The caption tells of the moment that is pointed at, or of now. */
  tell() {
    const { told } = this.options.series[0];
    if (this.at === null || !this.rows.length) {
      this.cursor.setAttribute("d", "");
      told?.(this.last(), null);
      return;
    }
    const time = this.now - this.spanned * (1 - this.at);
    const row = this.rows.reduce((best, one) => (Math.abs(one[0] - time) < Math.abs(best[0] - time) ? one : best));
    this.cursor.setAttribute("d", `M${place(WIDTH * (1 - (this.now - row[0]) / this.spanned))} 0V${HEIGHT}`);
    told?.(row, Math.max(0, this.now - row[0]));
  }
}

/** Shares of labels over time, stacked to 100 %: columns of some seconds each. */
export class ShareChart {
  constructor() {
    this.drawing = svg("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: "none", role: "img" });
    this.paths = [];
  }

  /** `layers` are colours, from the bottom; `columns` are [time, amount of each layer] and `width` seconds wide. */
  update(about, layers, columns, now, spanned, width) {
    while (this.paths.length < layers.length) {
      this.paths.push(svg("path", {}));
      this.drawing.append(this.paths.at(-1));
    }
    const drawn = layers.map(() => "");
    const x = (time) => Math.max(0, WIDTH * (1 - (now - time) / spanned));
    const gap = (WIDTH * width) / spanned / 16;
    for (const [time, amounts] of columns) {
      const total = amounts.reduce((sum, one) => sum + one, 0);
      const [left, right] = [x(time - width), x(time)];
      let below = HEIGHT;
      if (!total || right <= 0) continue;
      amounts.forEach((amount, i) => {
        if (!amount) return;
        const above = below - (HEIGHT * amount) / total;
        drawn[i] += `M${place(left)} ${place(below)}V${place(above)}H${place(right - gap)}V${place(below)}Z`;
        below = above;
      });
    }
    this.paths.forEach((path, i) => {
      path.setAttribute("d", drawn[i] ?? "");
      path.style.fill = layers[i] ?? "none";
    });
    this.drawing.ariaLabel = about;
  }
}
