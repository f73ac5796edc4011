// Any metric of metrics.jsonl, one chart each; the pinned ones are drawn.

import { get } from "./api.js";
import { Chart } from "./chart.js";
import { h, refill, segmented, toggle } from "./dom.js";
import { saveCsv, savePng, saveSvg } from "./export.js";
import { short, taskTitle } from "./format.js";
import { colour, dash } from "./palette.js";
import { change, list, state, switched } from "./state.js";
import { HOUR_STEPS, X_NAMES, hours } from "./curves.js";

const DECAYS = ["0", "0.6", "0.8", "0.9", "0.95", "0.98", "0.99"];

export class MetricsView {
  constructor(main, world) {
    this.world = world;
    this.cards = new Map();
    this.names = [];
    this.controls = h("div", { class: "controls", role: "toolbar", "aria-label": "How metrics are drawn" });
    this.how = h("p", { class: "how wide" });
    this.grid = h("div", { class: "grid metrics" });
    this.search = h("input", { type: "search", placeholder: "Find a metric", "aria-label": "Find a metric", oninput: () => this.#list() });
    this.names_list = h("div", { class: "metric-names" });
    main.replaceChildren(this.controls, h("div", { class: "with-side" }, h("aside", { class: "side", "aria-label": "Metrics" }, this.search, this.names_list), h("div", {}, this.how, this.grid)));
    this.seen = new IntersectionObserver((entries) => {
      for (const entry of entries) { const card = this.cards.get(entry.target.dataset.name); if (card) { card.visible = entry.isIntersecting; if (card.visible && card.stale) this.#load(card); } }
    }, { rootMargin: "200px" });
    this.#controls();
    this.refresh(null);
  }

  destroy() {
    this.seen.disconnect();
    for (const card of this.cards.values()) card.chart.destroy();
  }

  retyped() { for (const card of this.cards.values()) card.chart.redraw(); }

  async refresh() {
    const names = await get("metrics", { filter: state.filter, hidden: state.hidden });
    if (names.join() !== this.names.join()) { this.names = names; this.#list(); }
    this.#cards();
    for (const card of this.cards.values()) { card.stale = true; if (card.visible) this.#load(card); }
  }

  stateChanged(changes) {
    this.#controls();
    this.#list();
    if (Object.keys(changes).join() === "pins") { this.#cards(); return; }
    this.refresh();
  }

  #task() {
    if (state.mtask) return state.mtask === "*" ? "" : state.mtask;
    if (state.task) return state.task;
    const there = this.world.tasks.filter((one) => one.runs > 0);
    return there.reduce((newest, one) => (newest && Number(newest.live > 0) * 1e12 + newest.changed >= Number(one.live > 0) * 1e12 + one.changed ? newest : one), null)?.task ?? "";
  }

  #controls() {
    const place = Math.max(0, DECAYS.indexOf(state.smooth));
    const decay = Number(state.smooth);
    const tasks = this.world.tasks.filter((one) => one.runs > 0).map((one) => one.task).sort();
    const set = (key) => (value, focus) => {
      change({ [key]: value });
      if (focus) this.controls.querySelector(`[data-key="${key}"] [aria-checked="true"]`)?.focus();
    };
    const axis = segmented("Against", [["frames", "Frames"], ["hours", "Time"], ["updates", "Updates"]], state.axis, set("axis"));
    axis.dataset.key = "axis";
    refill(this.controls, axis,
      h("label", { class: "pick" }, h("span", { class: "legend" }, "Task"), h("select", { onchange: (event) => change({ mtask: event.target.value }) },
        h("option", { value: "*", selected: state.mtask === "*" }, "all tasks"), tasks.map((task) => h("option", { value: task, selected: task === this.#task() }, taskTitle(task))))),
      h("label", { class: "pick slider" }, h("span", { class: "legend" }, "Smoothing"),
        h("input", { type: "range", min: "0", max: String(DECAYS.length - 1), step: "1", value: String(place), "aria-label": "Smoothing", "aria-valuetext": smoothing(decay),
          onchange: (event) => change({ smooth: DECAYS[event.target.value] }) }), h("output", {}, decay ? state.smooth : "off")),
      h("div", { class: "toggles" },
        toggle("Log x", state.log === "on", (on) => change({ log: on ? "on" : "off" })),
        toggle("Log y", state.logy === "on", (on) => change({ logy: on ? "on" : "off" }))));
    this.how.textContent = smoothing(decay);
  }

  #list() {
    const wanted = this.search.value.toLowerCase();
    const pins = new Set(list("pins"));
    const groups = new Map();
    for (const name of this.names) if (name.toLowerCase().includes(wanted)) {
      const prefix = name.includes("/") ? name.slice(0, name.indexOf("/")) : "other";
      groups.set(prefix, [...(groups.get(prefix) ?? []), name]);
    }
    this.names_list.replaceChildren(...[...groups].map(([prefix, names]) => h("details", { open: Boolean(wanted) || names.some((name) => pins.has(name)) },
      h("summary", {}, prefix, h("small", {}, names.length)),
      h("ul", {}, names.map((name) => h("li", {}, h("button", { type: "button", class: "pin", "aria-pressed": String(pins.has(name)), title: pins.has(name) ? "Remove the chart" : "Draw it",
        onclick: () => change({ pins: switched("pins", name) }) }, name.includes("/") ? name.slice(prefix.length + 1) : name)))))));
  }

  #cards() {
    const pins = list("pins");
    for (const [name, card] of this.cards) if (!pins.includes(name)) { card.chart.destroy(); card.root.remove(); this.cards.delete(name); }
    for (const name of pins) if (!this.cards.has(name)) {
      const card = { name, stale: true, visible: false };
      card.body = h("div", { class: "chart-area" });
      card.note = h("span", { class: "sub" });
      const caption = () => ({ title: name, name, sub: smoothing(Number(state.smooth)), entries: card.chart.lines.filter((line) => !line.faint).map((line) => ({ label: line.label, colour: line.colour })) });
      card.root = h("section", { class: "card metric", data: { name }, "aria-label": name },
        h("header", {}, h("h2", {}, name), h("div", { class: "actions" },
          h("button", { type: "button", class: "quiet", onclick: () => savePng(card.chart, caption()) }, "PNG"),
          h("button", { type: "button", class: "quiet", onclick: () => saveSvg(card.chart, caption()) }, "SVG"),
          h("button", { type: "button", class: "quiet", onclick: () => saveCsv(name, card.answer) }, "CSV"),
          h("button", { type: "button", class: "quiet", "aria-label": `Remove ${name}`, onclick: () => change({ pins: switched("pins", name) }) }, "×"))),
        card.body, h("footer", {}, card.note));
      card.chart = new Chart(card.body, { height: 230, label: name, yText: short });
      this.cards.set(name, card);
      this.grid.append(card.root);
      this.seen.observe(card.root);
    }
  }

  async #load(card) {
    if (card.loading) { card.again = true; return; }
    card.loading = true;
    card.stale = false;
    card.answer = await get("metric", { name: card.name, axis: state.axis, decay: state.smooth, log: state.log === "on", task: this.#task(), filter: state.filter, hidden: state.hidden })
      .catch((error) => ({ x: [], lines: [], error: error.message }));
    card.loading = false;
    const { x, lines, thinned } = card.answer;
    const drawn = [];
    const many = lines.length > 12;
    for (const line of lines) {
      const own = { label: line.name, colour: colour(line.place), dash: dash(line.place), quiet: many };
      if (line.raw && !many) drawn.push({ ...own, id: `${line.id}.raw`, y: line.raw, faint: true, width: 1 });
      drawn.push({ ...own, id: line.id, y: line.y, width: many ? 1.2 : 1.8, live: this.world.byId.get(line.id)?.active });
    }
    const timed = state.axis === "hours";
    Object.assign(card.chart.options, { xUnit: timed ? "" : state.axis, xText: timed ? hours : short, xSteps: timed ? HOUR_STEPS : undefined });
    card.chart.draw({ lines: drawn, shared: x, logX: state.log === "on", logY: state.logy === "on",
      label: `${card.name} against ${X_NAMES[state.axis]}, ${lines.length} runs` });
    card.note.textContent = card.answer.error ?? (lines.length ? `${lines.length} ${lines.length === 1 ? "run" : "runs"}${thinned ? "; thinned out, smallest and largest values kept" : ""}` : "no run has it");
    if (card.again) { card.again = false; this.#load(card); }
  }
}

function smoothing(decay) {
  if (!decay) return "Not smoothed: every line of metrics.jsonl as it is.";
  const lines = Math.round(1 / (1 - decay));
  return `Smoothed over all points before thinning: an exponential average with decay ${decay}, about the last ${lines} lines of the log, corrected at its start. Raw values are drawn faintly behind.`;
}
