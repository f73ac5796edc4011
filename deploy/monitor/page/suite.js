// A suite's methods over all its tasks: statistics with intervals, performance profiles, frames to a score, each task.

import { Chart } from "./chart.js";
import { fill, h } from "./dom.js";
import { counted, short, taskTitle } from "./format.js";
import { colour, dash, publishedColour, publishedName } from "./palette.js";
import { change, list, state } from "./state.js";

const NAMES = [["iqm", "IQM"], ["median", "Median"], ["mean", "Mean"]];

export function isSuite(task) { return task.startsWith("suite:"); }

export class SuitePanel {
  constructor() {
    this.table = h("div", { class: "table-box", tabindex: "0", role: "region", "aria-label": "Statistics over tasks and seeds" });
    this.each = h("details", {}, h("summary", {}, "Scores of each task"), h("div", { class: "table-box", tabindex: "0" }));
    this.curves = h("div", { class: "chart-area" });
    this.how = h("p", { class: "how" });
    this.at = h("input", { type: "number", min: "0", step: "any", placeholder: "the end", value: state.at, "aria-label": "Frames at which scores are compared", onchange: (event) => change({ at: event.target.value }) });
    this.goal = h("input", { type: "number", step: "any", placeholder: "0.5", value: state.goal, "aria-label": "Normalised score to reach", onchange: (event) => change({ goal: event.target.value }) });
    this.root = h("div", { class: "suite" },
      h("section", {}, h("header", {}, h("h2", {}, "Over tasks and seeds"), h("label", {}, "at frames ", this.at), h("label", {}, "to reach ", this.goal)), this.table, this.each),
      h("section", {}, h("header", {}, h("h2", {}, "Performance profile")), h("p", { class: "sub" }, "Share of all runs that score above"), this.curves), this.how);
    this.chart = new Chart(this.curves, { height: 260, xLabel: "normalised score", yText: (value) => `${Math.round(100 * value)} %`, xText: short, label: "Performance profile" });
  }

  destroy() { this.chart.destroy(); }

  redraw() { this.chart.redraw(); }

  draw({ groups, baselines, suite }) {
    const off = list("off");
    const methods = [
      ...groups.filter((one) => !off.includes(one.id)).map((one) => ({ ...one, own: true, colour: colour(one.place), dash: dash(one.place) })),
      ...(state.baselines === "on" ? baselines.map((one, place) => ({ ...one, label: publishedName(one.name), colour: publishedColour(place), dash: [7, 4] })) : []),
    ].filter((one) => one.overall);
    const goal = state.goal || "0.5";
    const bounds = Object.fromEntries(NAMES.map(([name]) => {
      const values = methods.flatMap(({ overall }) => [overall[name].value, overall[name].low, overall[name].high]).filter((value) => value !== null);
      const low = Math.min(0, ...values), high = Math.max(...values, low + 1e-9);
      return [name, [low, high]];
    }));
    fill(this.table, methods.length ? h("table", { class: "standings" },
      h("thead", {}, h("tr", {}, ["Method", ...NAMES.map(([, text]) => text), `Frames to ${goal}`, "Tasks"].map((text) => h("th", {}, text)))),
      h("tbody", {}, methods.map((one) => h("tr", {},
        h("td", {}, h("span", { class: "method" }, h("i", { class: one.own ? "swatch" : "swatch dashed", style: { "--colour": one.colour } }), h("b", {}, one.label)), one.detail ? h("small", {}, one.detail) : null),
        NAMES.map(([name]) => h("td", { data: { statistic: name } }, interval(one.overall[name], bounds[name], one.colour))),
        h("td", {}, h("b", {}, one.reach.middle === null ? "not reached" : short(one.reach.middle)), h("small", {}, `${one.reach.reached} of ${counted(one.reach.of, "run")}`)),
        h("td", {}, one.own && Object.keys(one.each).length < suite.tasks.length ? h("b", { class: "bad-text" }, `${Object.keys(one.each).length} of ${suite.tasks.length}`) : Object.keys(one.each).length,
          h("small", {}, `at ${span(one.ends)} frames`)))))) : h("p", { class: "sub" }, "No run has come far enough."));
    this.#tasks(methods, suite.tasks);
    this.chart.draw({ lines: methods.map((one) => ({ id: one.id ?? one.name, label: one.label, colour: one.colour, width: 2.2, dash: one.own ? one.dash : [7, 4], quiet: true,
      x: one.overall.profile.x, y: one.overall.profile.y, low: one.overall.few ? undefined : one.overall.profile.low, high: one.overall.few ? undefined : one.overall.profile.high })),
    label: `Performance profile: ${methods.map((one) => `${one.label}, median ${short(one.overall.median.value)}`).join("; ")}` });
    const few = methods.filter((one) => one.overall.few);
    const lacking = methods.filter((one) => one.own && Object.keys(one.each).length < suite.tasks.length);
    fill(this.how, `1 is ${suite.one}. Scores are means of the last 5 % of the frames; intervals hold 95 %, from a bootstrap that draws runs within each task. The median is over tasks, the IQM over the middle half of all runs. `,
      few.length ? h("strong", {}, `${few.map((one) => one.label).join(", ")}: fewer than 3 seeds on some task, too few for an interval that means much. `) : "",
      lacking.length ? h("strong", {}, `${lacking.map((one) => one.label).join(", ")}: not on every task, so not comparable with the others.`) : "");
  }

  #tasks(methods, tasks) {
    fill(this.each.lastChild, h("table", {}, h("thead", {}, h("tr", {}, h("th", {}, "Task"), methods.map((one) => h("th", {}, one.label)))),
      h("tbody", {}, tasks.map((task) => h("tr", {}, h("td", {}, h("button", { type: "button", class: "link", onclick: () => change({ task }, false) }, taskTitle(task))),
        methods.map((one) => h("td", {}, one.each[task] ? h("b", {}, short(one.each[task].mean)) : "–", one.each[task] ? h("small", {}, counted(one.each[task].n, "seed")) : null)))))));
  }
}

function interval({ value, low, high }, [least, most], tone) {
  const place = (one) => `${100 * (one - least) / (most - least)}%`;
  return [h("b", {}, short(value)), low === null ? h("small", {}, "no interval") : h("small", {}, `${short(low)} to ${short(high)}`),
    h("span", { class: "reach-bar", style: { "--colour": tone }, "aria-hidden": "true" }, low === null ? null : h("i", { style: { left: place(low), right: `calc(100% - ${place(high)})` } }), h("s", { style: { left: place(value) } }))];
}

function span([low, high]) { return low === high ? short(low) : `${short(low)} to ${short(high)}`; }
