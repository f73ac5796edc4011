// The health of the world models of some runs: verdicts, open-loop videos, and the numbers behind them.

import { get } from "./api.js";
import { HealthCharts } from "./health_charts.js";
import { fill, h, refill } from "./dom.js";
import { ago, counted, short, taskTitle, whole } from "./format.js";
import { colour } from "./palette.js";
import { change, list, state } from "./state.js";
import { Videos } from "./videos.js";

const TITLES = { horizon: "Compounding error", memory: "Memory", returns: "Imagined return", reward: "Reward head", forgetting: "Forgetting", actions: "Use of actions", cost: "Cost" };
const MOST = 6; // runs at once
const SIGNS = { healthy: "✓", watch: "!", unhealthy: "✕", unknown: "?" };

export class HealthView {
  constructor(main, world) {
    this.world = world;
    this.known = new Map();
    this.controls = h("div", { class: "controls", role: "toolbar", "aria-label": "Which runs" });
    this.head = h("div", { class: "verdicts" });
    const films = h("section", { class: "card block", "aria-label": "Open-loop prediction" }, h("h2", {}, "Open-loop prediction"),
      this.films_text = h("p", { class: "sub" }, "In the context the model sees what happens; from then on it predicts from the actions alone. All videos show the same step: drag, or use ← and →; space plays."));
    this.films = films;
    this.videos = new Videos(films);
    this.charts = new HealthCharts();
    this.body = h("div", { class: "health" }, this.head, films, this.charts.root);
    main.replaceChildren(this.controls, this.body);
    this.onKey = (event) => {
      if (event.ctrlKey || event.metaKey || event.altKey || event.target.closest("input:not([type=range]), textarea, select, dialog, button, a, [role=radio], .plot")) return;
      if (this.videos.key(event)) event.preventDefault();
    };
    addEventListener("keydown", this.onKey);
    this.refresh();
  }

  destroy() {
    this.gone = true;
    removeEventListener("keydown", this.onKey);
    this.videos.destroy();
    this.charts.destroy();
  }

  retyped() { this.charts.redraw(); }

  stateChanged(changes) { if (["health", "filter", "hkey"].some((key) => key in changes)) this.refresh(); }

  #chosen() {
    const able = this.world.runs.filter((run) => run.selected && run.health);
    able.sort((one, other) => Number(other.active) - Number(one.active) || other.changed - one.changed);
    const wanted = list("health").map((id) => this.world.byId.get(id)).filter(Boolean);
    return { able, chosen: wanted.length ? wanted.slice(0, MOST) : able.slice(0, 1) };
  }

  async refresh(changed = null) {
    const { able, chosen } = this.#chosen();
    this.#picker(able, chosen);
    if (this.busy) { this.again = true; return; }
    this.busy = true;
    try {
      await Promise.all(chosen.filter((run) => !changed || !this.known.has(run.id) || changed.includes(run.id)).map((run) => this.#load(run)));
      for (const id of this.known.keys()) if (!this.world.byId.has(id)) this.known.delete(id);
      if (!this.gone) this.#draw(chosen);
    } finally {
      this.busy = false;
    }
    if (this.again && !this.gone) { this.again = false; this.refresh(); }
  }

  /** Only what is new since the last answer is asked for. */
  async #load(run) {
    const before = this.known.get(run.id) ?? { cursor: "", trend: new Map(), newest: null };
    try {
      const answer = await get("health", { run: run.id, after: before.cursor });
      const stands = new Set(answer.updates);
      const trend = new Map([...before.trend].filter(([updates]) => stands.has(updates)));
      for (const point of answer.trend) trend.set(point.updates, point);
      const newest = answer.updates.length ? answer.newest ?? before.newest : null;
      this.known.set(run.id, { ...answer, cursor: answer.cursor, trend, newest, error: null });
    } catch (error) {
      this.known.set(run.id, { ...before, verdicts: before.verdicts ?? [], pictures: before.pictures ?? { files: [] }, error: error.message });
    }
  }

  #picker(able, chosen) {
    const ids = chosen.map((run) => run.id);
    const pick = (next) => change({ health: next.join(",") });
    const others = able.filter((run) => !ids.includes(run.id));
    refill(this.controls,
      h("div", { class: "toggles", role: "list", "aria-label": "Chosen runs" }, chosen.map((run, place) => h("span", { class: "picked", role: "listitem" },
        h("i", { class: run.active ? "swatch live" : "swatch", style: { "--colour": colour(place) } }), run.name,
        ids.length > 1 ? h("button", { type: "button", class: "drop", "aria-label": `Leave out ${run.name}`, onclick: () => pick(ids.filter((id) => id !== run.id)) }, "×") : null))),
      others.length && ids.length < MOST ? h("label", { class: "pick" }, h("span", { class: "legend" }, "Compare with"), h("select", { class: "wide", onchange: (event) => { if (event.target.value) pick([...ids, event.target.value]); } },
        h("option", { value: "" }, "another run …"), others.map((run) => h("option", { value: run.id }, `${run.name} · ${taskTitle(run.task)}`)))) : null);
  }

  #draw(chosen) {
    const found = chosen.map((run, place) => ({ run, place, colour: colour(place), ...this.known.get(run.id) })).filter((one) => one.pictures);
    this.films.hidden = this.charts.root.hidden = !found.length;
    if (!found.length) {
      fill(this.head, h("div", { class: "card empty" }, h("h2", {}, "No run has a health report yet"),
        h("p", {}, "A run measures its world model every report-every updates, once its replay has enough to sample from."),
        h("code", {}, "nexus train gym:CartPole-v1 --preset quick --report-every 500")));
      return;
    }
    fill(this.head, found.map((one) => this.#verdicts(one)));
    const films = found.map((one) => this.#film(one)).filter(Boolean);
    this.films.hidden = !films.length;
    this.films_text.hidden = !films.some((one) => one.kind === "video");
    this.videos.show(films);
    this.charts.show(found);
  }

  #verdicts(one) {
    const { run, newest, verdicts, damaged, error } = one;
    const bad = verdicts.filter((verdict) => verdict.state === "unhealthy").length, watch = verdicts.filter((verdict) => verdict.state === "watch").length;
    const said = error ?? (!newest ? "no health report yet" : bad ? `${counted(bad, "part")} unhealthy` : watch ? `${counted(watch, "part")} to watch` : verdicts.some((verdict) => verdict.state === "healthy") ? "healthy" : "nothing measured yet");
    return h("section", { class: "patient", "aria-label": `Health of ${run.name}`, data: { run: run.id } },
      h("header", {}, h("i", { class: run.active ? "swatch live" : "swatch", style: { "--colour": one.colour } }), h("h1", {}, run.name),
        h("span", { class: `state-chip ${bad || error ? "failed" : watch ? "watch" : newest ? "training" : ""}` }, said),
        h("p", { class: "sub" }, taskTitle(run.task), newest ? ` · report of update ${whole(newest.updates)}, ${short(newest.frames)} frames, ${ago(newest.time)}` : "", damaged ? ` · ${counted(damaged, "damaged report")} left out` : "")),
      h("div", { class: "verdict-grid" }, verdicts.map((verdict) => h("article", { class: `card verdict ${verdict.state in SIGNS ? verdict.state : "unknown"}`, data: { part: verdict.name } },
        h("header", {}, h("span", { class: "sign", "aria-hidden": "true" }, SIGNS[verdict.state] ?? "?"), h("h2", {}, TITLES[verdict.name] ?? verdict.title), h("b", {}, verdict.state)),
        h("p", {}, verdict.text),
        verdict.state === "unknown" ? null : h("p", { class: "norm" }, verdict.healthy),
        verdict.remedy && ["watch", "unhealthy"].includes(verdict.state) ? h("p", { class: "remedy" }, verdict.remedy) : null))));
  }

  #film({ run, colour: own, pictures }) {
    const file = pictures.files.find((one) => one.kind === "video") ?? pictures.files[0];
    if (!file) return null;
    return { id: run.id, name: run.name, colour: own, kind: file.kind, updates: file.updates, fps: pictures.fps, held: pictures.held,
      url: `/api/runs/${run.id}/videos/${file.name}?v=${file.version}`, context: pictures.context,
      note: file.kind === "video" ? "" : "vectors: a picture of single dimensions" };
  }
}
