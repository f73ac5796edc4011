// A chart: lines with bands over one axis, drawn by uPlot, with a reading at the cursor, zoom, and keys.

import { h } from "./dom.js";
import { css, faded } from "./palette.js";
import { score, short } from "./format.js";

const uPlot = window.uPlot;
const still = matchMedia("(prefers-reduced-motion: reduce)");

export class Chart {
  /** host: an element; options: height, label, compact, xText(value), yText(value). */
  constructor(host, options) {
    this.options = { xText: short, yText: score, height: 300, compact: false, ...options };
    this.zoom = null;
    this.plot = null;
    this.signature = "";
    this.box = h("div", { class: "plot", tabindex: this.options.compact ? "-1" : "0", role: "img", "aria-label": options.label ?? "Chart" });
    this.tip = h("div", { class: "tip", hidden: true, "aria-hidden": "true" });
    this.marks = h("div", { class: "marks", "aria-hidden": "true" });
    host.append(this.box);
    this.box.addEventListener("keydown", (event) => this.#key(event));
    this.box.addEventListener("blur", () => this.#leave());
    this.watch = new ResizeObserver(() => this.#resize());
    this.watch.observe(this.box);
  }

  /** lines: {id, label, colour, width, dash, x, y, low, high, faint, dots, live, quiet, remark}; levels: {label, y, colour}. */
  draw({ lines, levels = [], shared = null, logX = false, logY = false, label }) {
    this.lines = lines;
    this.levels = levels;
    const signature = JSON.stringify([lines.map((one) => [one.id, one.colour, one.width, one.dash, Boolean(one.low), one.faint, one.dots]),
      logX, logY, document.documentElement.dataset.theme, levels, Boolean(shared), this.options.xLabel, this.options.yLabel]);
    this.logX = logX;
    this.logY = logY;
    const data = shared ? [shared, ...lines.map((one) => one.y)] : joined(lines);
    this.columns = shared ? lines.map((_, place) => place + 1) : columnsOf(lines);
    if (label) this.box.setAttribute("aria-label", label);
    if (signature !== this.signature || !this.plot) {
      this.signature = signature;
      this.plot?.destroy();
      this.plot = new uPlot(this.#settings(lines, logX, logY, Boolean(shared)), data, this.box);
      this.plot.over.append(this.marks, this.tip);
    } else {
      this.plot.setData(data, true);
    }
    this.#pulses();
  }

  redraw() { this.plot?.redraw(false, true); }

  destroy() {
    this.watch.disconnect();
    this.plot?.destroy();
    this.plot = null;
    this.box.remove();
  }

  #settings(lines, logX, logY, shared) {
    const grid = { stroke: css("--grid"), width: 1 };
    const compact = this.options.compact;
    const font = `${compact ? 11 : 12}px Inter, system-ui, sans-serif`;
    const axis = { stroke: css("--muted"), font, grid, ticks: { show: false }, labelFont: font, labelSize: 20 };
    const series = [{}];
    const bands = [];
    for (const line of lines) {
      const common = { spanGaps: true, points: { show: false }, stroke: line.colour };
      if (line.dots) {
        series.push({ ...common, paths: () => null, points: { show: true, size: compact ? 3 : 4.5, width: 0, fill: faded(line.colour, 0.28), stroke: "transparent" } });
        continue;
      }
      const lonely = (line.x ?? []).length === 1;
      series.push({ ...common, width: line.width ?? 2, dash: line.dash, cap: "round",
        alpha: line.faint ? 0.38 : 1, points: { show: lonely, size: 7, fill: line.colour } });
      if (!shared && line.low) {
        const place = series.length;
        series.push({ ...common, width: 0, stroke: "transparent" }, { ...common, width: 0, stroke: "transparent" });
        bands.push({ series: [place + 1, place], fill: faded(line.colour, css("--band") || 0.15) });
      }
    }
    const xText = (_, values) => values.map((value) => value === null ? null : this.options.xText(value));
    const yText = (_, values) => values.map((value) => value === null ? null : this.options.yText(value));
    return {
      width: Math.max(120, this.box.clientWidth), height: this.options.height, series, bands,
      padding: compact ? [8, 14, 0, 0] : [12, 16, 0, 0],
      legend: { show: false },
      cursor: {
        drag: { x: true, y: false, setScale: true }, points: { show: false }, y: false,
        focus: { prox: -1 },
      },
      scales: {
        x: { time: false, distr: logX ? 3 : 1, range: (_, low, high) => this.#rangeX(low, high) },
        y: { distr: logY ? 3 : 1, range: (plot, low, high) => this.#rangeY(low, high) },
      },
      axes: [
        { ...axis, grid: { show: false }, values: xText, size: compact ? 26 : 34, space: compact ? 60 : 80, gap: 6, incrs: this.options.xSteps,
          label: compact ? undefined : this.options.xLabel },
        { ...axis, values: yText, size: (plot, values) => 16 + Math.max(18, ...(values ?? []).map((text) => 7 * String(text ?? "").length)), gap: 6,
          space: compact ? 34 : 44 },
      ],
      hooks: {
        setCursor: [(plot) => this.#read(plot)],
        draw: [(plot) => { this.#levels(plot); if (this.plot) this.#pulses(); }],
        setSelect: [(plot) => { if (plot.select.width > 3) this.zoom = [plot.posToVal(plot.select.left, "x"), plot.posToVal(plot.select.left + plot.select.width, "x")]; }],
        ready: [(plot) => {
          plot.over.addEventListener("dblclick", () => { this.zoom = null; this.#again(); });
          plot.over.addEventListener("mouseleave", () => this.#leave());
        }],
      },
    };
  }

  #again() { if (this.plot) this.plot.setData(this.plot.data, true); }

  #rangeX(low, high) {
    if (this.zoom) return this.zoom;
    if (low === null || high === null || !Number.isFinite(low)) return this.logX ? [1, 10] : [0, 1];
    if (this.logX) return [Math.max(low, Number.MIN_VALUE), high > low ? high : low * 10];
    return [0, high > 0 ? high * 1.012 : 1];
  }

  #rangeY(low, high) {
    const heights = this.levels.map((one) => one.y);
    const least = Math.min(low ?? Infinity, ...heights), most = Math.max(high ?? -Infinity, ...heights);
    if (!Number.isFinite(least) || !Number.isFinite(most)) return this.logY ? [1, 10] : [0, 1];
    if (this.logY) {
      const floor = least > 0 ? least : most > 0 ? most / 1e6 : 1e-6;
      return [floor / 1.2, Math.max(most, floor * 10) * 1.2];
    }
    const room = (most - least) * 0.07 || Math.abs(most) * 0.1 || 1;
    return [least >= 0 && least - room < 0 ? 0 : least - room, most + room];
  }

  #levels(plot) {
    const { ctx } = plot;
    const ratio = devicePixelRatio || 1;
    ctx.save();
    ctx.font = `${11 * ratio}px Inter, system-ui, sans-serif`;
    ctx.textAlign = "right";
    ctx.textBaseline = "bottom";
    for (const level of this.levels) {
      const y = plot.valToPos(level.y, "y", true);
      ctx.strokeStyle = ctx.fillStyle = level.colour;
      ctx.lineWidth = ratio;
      ctx.setLineDash([4 * ratio, 4 * ratio]);
      ctx.beginPath();
      ctx.moveTo(plot.bbox.left, y);
      ctx.lineTo(plot.bbox.left + plot.bbox.width, y);
      ctx.stroke();
      if (level.label) ctx.fillText(`${level.label}  ${this.options.yText(level.y)}`, plot.bbox.left + plot.bbox.width - 6 * ratio, y - 2 * ratio);
    }
    ctx.restore();
  }

  #pulses() {
    if (!this.plot) return;
    this.marks.replaceChildren(...this.lines.filter((line) => !line.faint && !line.dots && !line.quiet).map((line) => {
      const last = lastPoint(line, this.plot.data);
      if (!last) return null;
      const left = this.plot.valToPos(last[0], "x"), top = this.plot.valToPos(last[1], "y");
      if (!(left >= 0 && left <= this.plot.over.clientWidth + 1)) return null;
      return h("i", { class: line.live && !still.matches ? "mark live" : "mark", style: { left: `${left}px`, top: `${top}px`, "--colour": line.colour } });
    }).filter(Boolean));
  }

  #read(plot) {
    const { left, idx } = plot.cursor;
    if (left === undefined || left < 0 || idx === null || idx === undefined) return this.#leave();
    const x = plot.posToVal(left, "x");
    const rows = [];
    this.lines.forEach((line, place) => {
      if (line.faint || line.dots) return;
      const found = nearest(plot.data[0], plot.data[this.columns[place]], x, line);
      if (found) rows.push({ line, ...found });
    });
    if (!rows.length) return this.#leave();
    rows.sort((one, other) => other.y - one.y);
    const shown = rows.slice(0, 12);
    this.tip.replaceChildren(
      h("b", {}, `${this.options.xText(x)} ${this.options.xUnit ?? ""}`),
      ...shown.map(({ line, y, low, high }) => h("p", {},
        h("i", { style: { background: line.colour } }), h("span", {}, line.label),
        h("strong", {}, this.options.yText(y)),
        low !== undefined && low !== null ? h("small", {}, `${this.options.yText(low)} to ${this.options.yText(high)}`) : null)),
      rows.length > shown.length ? h("small", {}, `and ${rows.length - shown.length} more`) : "");
    this.tip.hidden = false;
    const wide = plot.over.clientWidth, own = this.tip.offsetWidth;
    const place = left + 16 + own > wide ? left - own - 16 : left + 16;
    this.tip.style.left = `${Math.max(-40, place)}px`;
    this.options.onRead?.(x, rows);
  }

  #leave() { this.tip.hidden = true; }

  #key(event) {
    if (!this.plot || event.ctrlKey || event.metaKey || event.altKey) return;
    const plot = this.plot;
    const [low, high] = [plot.scales.x.min, plot.scales.x.max];
    const width = plot.over.clientWidth;
    const at = plot.cursor.left >= 0 && !this.tip.hidden ? plot.cursor.left : width;
    const moves = { ArrowLeft: -width / 60, ArrowRight: width / 60, Home: -width, End: width };
    if (event.key in moves) {
      const left = Math.min(width - 1, Math.max(0, at + moves[event.key]));
      plot.setCursor({ left, top: 10 });
      this.#read(plot);
    } else if (event.key === "+" || event.key === "-") {
      const middle = plot.posToVal(Math.min(at, width), "x"), half = (high - low) * (event.key === "+" ? 0.3 : 0.8);
      this.zoom = [Math.max(this.logX ? 1 : 0, middle - half), middle + half];
      this.#again();
    } else if (event.key === "Escape" && this.zoom) {
      this.zoom = null;
      this.#again();
    } else {
      return;
    }
    event.preventDefault();
    event.stopPropagation();
  }

  #resize() {
    const width = this.box.clientWidth;
    if (this.plot && width > 0 && Math.abs(width - this.plot.width) > 1) {
      this.plot.setSize({ width, height: this.options.height });
      this.#pulses();
    }
  }
}

function tableOf(line) {
  if (line.dots) return [line.x, line.y];
  return line.low ? [line.x, line.y, line.low, line.high] : [line.x, line.y];
}

function joined(lines) {
  const tables = lines.filter((line) => line.x.length).map(tableOf);
  if (!tables.length) return [[], ...columnsCount(lines)];
  const whole = uPlot.join(tables);
  const out = [whole[0]];
  let next = 1;
  for (const line of lines) {
    const width = tableOf(line).length - 1;
    for (let column = 0; column < width; column += 1) out.push(line.x.length ? whole[next++] : whole[0].map(() => null));
  }
  return out;
}

function columnsCount(lines) { return lines.flatMap((line) => Array(tableOf(line).length - 1).fill([])); }

function columnsOf(lines) {
  let next = 1;
  return lines.map((line) => { const own = next; next += tableOf(line).length - 1; return own; });
}

function lastPoint(line, data) {
  const xs = line.x ?? data[0], ys = line.y;
  for (let place = ys.length - 1; place >= 0; place -= 1) if (ys[place] !== null && ys[place] !== undefined) return [xs[place], ys[place]];
  return null;
}

function nearest(xs, ys, x, line) {
  const own = line.x ?? xs, values = line.x ? line.y : ys;
  if (!own.length) return null;
  let low = 0, high = own.length - 1;
  while (high - low > 1) { const middle = (low + high) >> 1; if (own[middle] < x) low = middle; else high = middle; }
  let place = Math.abs(own[low] - x) <= Math.abs(own[high] - x) ? low : high;
  const step = own.length > 1 ? (own[own.length - 1] - own[0]) / (own.length - 1) : Infinity;
  if (x > own[own.length - 1] + step || x < own[0] - step) return null;
  for (let back = 0; back < 8 && (values[place] === null || values[place] === undefined); back += 1) place -= 1;
  const y = values[place];
  return y === null || y === undefined ? null : { y, low: line.low?.[place], high: line.high?.[place] };
}
