// A square picture of two quantities of one unit, with the line on which they are equal.

import { h } from "./dom.js";
import { short } from "./format.js";

const SIZE = 320, LEFT = 46, BOTTOM = 40, TOP = 10, RIGHT = 12;

/** points: {x, y, r, title}; options: label, xLabel, yLabel, above, below (what it means to lie there). */
export function square(points, colour, options) {
  const values = points.flatMap(({ x, y }) => [x, y]);
  let low = Math.min(...values), high = Math.max(...values);
  const room = (high - low) * 0.06 || Math.abs(high) * 0.1 || 1;
  [low, high] = [low - room, high + room];
  const wide = SIZE - LEFT - RIGHT, tall = SIZE - TOP - BOTTOM;
  const left = (value) => LEFT + wide * (value - low) / (high - low), top = (value) => TOP + tall * (high - value) / (high - low);
  const text = (x, y, said, props = {}) => h("svg:text", { x: x.toFixed(1), y: y.toFixed(1), ...props }, said);
  const marks = steps(low, high);
  return h("svg:svg", { viewBox: `0 0 ${SIZE} ${SIZE}`, class: "square", role: "img", "aria-label": options.label },
    marks.map((value) => [
      h("svg:path", { d: `M${left(value)} ${TOP}v${tall}M${LEFT} ${top(value)}h${wide}`, class: "rule" }),
      text(left(value), SIZE - BOTTOM + 16, short(value), { "text-anchor": "middle" }), text(LEFT - 7, top(value) + 4, short(value), { "text-anchor": "end" })]),
    text(LEFT + wide / 2, SIZE - 4, options.xLabel, { "text-anchor": "middle", class: "axis" }),
    text(-(TOP + tall / 2), 11, options.yLabel, { "text-anchor": "middle", class: "axis", transform: "rotate(-90)" }),
    h("svg:path", { d: `M${LEFT} ${TOP + tall}L${LEFT + wide} ${TOP}`, class: "equal" }),
    text(LEFT + 8, TOP + 15, options.above, { class: "aside" }), text(LEFT + wide - 6, TOP + tall - 8, options.below, { "text-anchor": "end", class: "aside" }),
    points.map(({ x, y, r, title }) => h("svg:circle", { cx: left(x).toFixed(1), cy: top(y).toFixed(1), r: r ?? 3, fill: colour, "fill-opacity": r ? 0.55 : 0.4 }, h("svg:title", {}, title))));
}

function steps(low, high) {
  const rough = (high - low) / 4, power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((one) => one * power).find((one) => one >= rough);
  const out = [];
  for (let value = Math.ceil(low / step) * step; value <= high; value += step) out.push(Number(value.toPrecision(10)));
  return out;
}
