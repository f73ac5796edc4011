// The table of runs: what they are, how far, how good; notes, and what distinguishes them.

import { get, post } from "./api.js";
import { ask, fill, h, toast } from "./dom.js";
import { ago, score, short, taskTitle } from "./format.js";
import { colour } from "./palette.js";
import { change, list, state, switched } from "./state.js";

const COLUMNS = [["name", "Run"], ["task", "Task"], ["state", "State"], ["frames", "Frames"], ["score", "Score"], ["best", "Best evaluation"],
  ["spark", "Training"], ["fps", "Frames/s"], ["changed", "Written"]];

export class RunsView {
  constructor(main, world) {
    this.world = world;
    this.rows = new Map();
    this.bar = h("div", { class: "controls", role: "toolbar", "aria-label": "Chosen runs" });
    this.head = h("thead");
    this.body = h("tbody");
    main.replaceChildren(this.bar, h("div", { class: "card table-box", tabindex: "0", role: "region", "aria-label": "Runs" }, h("table", { class: "runs" }, this.head, this.body)));
    this.clock = setInterval(() => this.refresh(null), 15000);
    this.refresh(null);
  }

  destroy() { clearInterval(this.clock); }

  stateChanged() { this.refresh(null); }

  refresh() {
    const chosen = new Set(list("chosen")), hidden = new Set(list("hidden"));
    const runs = this.world.runs.filter((run) => run.selected);
    const key = state.sort, sign = state.down === "on" ? -1 : 1;
    const value = (run) => (key === "spark" ? run.episodes : run[key]);
    runs.sort((one, other) => {
      const [a, b] = [value(one), value(other)];
      if (a === b) return one.name.localeCompare(other.name);
      if (a === null || a === undefined) return 1;
      if (b === null || b === undefined) return -1;
      return sign * (typeof a === "string" ? a.localeCompare(b) : a - b);
    });
    this.#bar(runs, chosen, hidden);
    this.head.replaceChildren(h("tr", {},
      h("th", { class: "check" }, h("input", { type: "checkbox", "aria-label": "Choose all", checked: runs.length > 0 && runs.every((run) => chosen.has(run.id)),
        onchange: (event) => change({ chosen: event.target.checked ? runs.map((run) => run.id).join(",") : "" }) })),
      COLUMNS.map(([name, text]) => h("th", { "aria-sort": key === name ? (sign > 0 ? "ascending" : "descending") : "none" },
        h("button", { type: "button", onclick: () => change({ sort: name, down: key === name && state.down === "on" ? "off" : "on" }) }, text, key === name ? (sign > 0 ? " ↑" : " ↓") : "")))));
    const kept = new Set();
    const wanted = runs.map((run) => {
      kept.add(run.id);
      const signature = JSON.stringify([run, chosen.has(run.id), hidden.has(run.id), document.documentElement.dataset.theme, ago(run.changed)]);
      const before = this.rows.get(run.id);
      if (before?.signature === signature) return before.root;
      const root = this.#row(run, chosen.has(run.id), hidden.has(run.id));
      this.rows.set(run.id, { signature, root });
      return root;
    });
    for (const id of this.rows.keys()) if (!kept.has(id)) this.rows.delete(id);
    if (this.body.children.length !== wanted.length || wanted.some((row, place) => this.body.children[place] !== row)) this.body.replaceChildren(...wanted);
    if (!runs.length) this.body.replaceChildren(h("tr", {}, h("td", { colspan: String(COLUMNS.length + 1), class: "empty" }, "No run matches the filter.")));
  }

  #row(run, chosen, hidden) {
    const share = run.planned ? Math.min(1, run.frames / run.planned) : 0;
    return h("tr", { class: hidden ? "muted" : "" },
      h("td", { class: "check" }, h("input", { type: "checkbox", checked: chosen, "aria-label": `Choose ${run.name}`, onchange: () => change({ chosen: switched("chosen", run.id) }) })),
      h("td", { class: "name" }, h("button", { type: "button", class: "link", title: `${run.path}`, onclick: () => this.#open(run.id) },
        h("i", { class: run.active ? "swatch live" : "swatch", style: { "--colour": colour(run.place) } }), run.name),
      run.tags.map((tag) => h("span", { class: "chip" }, tag)), run.note ? h("span", { class: "note", title: run.note }, run.note) : null),
      h("td", { class: "task" }, taskTitle(run.task), h("small", {}, `seed ${run.seed}`)),
      h("td", { class: "state" }, h("span", { class: `state-chip ${run.state}` }, run.state)),
      h("td", { class: "frames" }, h("span", {}, short(run.frames), run.planned ? h("small", {}, ` of ${short(run.planned)}`) : null),
        h("progress", { max: "1", value: String(share), "aria-label": `${Math.round(100 * share)} % of the planned frames` })),
      h("td", { class: "number" }, score(run.score)),
      h("td", { class: "number" }, score(run.best)),
      h("td", { class: "spark" }, spark(run.spark, colour(run.place))),
      h("td", { class: "number" }, short(run.fps)),
      h("td", { class: "changed" }, ago(run.changed)));
  }

  #bar(runs, chosen, hidden) {
    const ids = [...chosen].filter((id) => this.world.byId.has(id));
    const live = runs.filter((run) => run.active).length;
    const archived = ids.length > 0 && ids.every((id) => this.world.byId.get(id).archived);
    fill(this.bar,
      h("p", { class: "count" }, h("b", {}, runs.length), ` of ${this.world.runs.length} runs`, live ? h("span", { class: "chip live" }, `${live} live`) : null,
        ids.length ? h("span", { class: "chip" }, `${ids.length} chosen`) : h("span", { class: "sub" }, "Choose some to compare, hide or archive them.")),
      ids.length ? h("div", { class: "toggles" },
        h("button", { type: "button", class: "primary", disabled: ids.length < 1 || ids.length > 50, onclick: () => compare(ids) }, ids.length === 1 ? "Configuration" : "Compare configurations"),
        h("button", { type: "button", class: "quiet", onclick: () => change({ hidden: [...new Set([...hidden, ...ids])].join(",") }) }, "Hide from curves"),
        h("button", { type: "button", class: "quiet", onclick: () => this.#archive(ids, !archived) }, archived ? "Unarchive" : "Archive")) : null,
      hidden.size ? h("button", { type: "button", class: "quiet", onclick: () => change({ hidden: "" }) }, `Show ${hidden.size} hidden`) : null);
  }

  async #archive(ids, archived) {
    for (const id of ids) await post(`runs/${id}/notes`, { archived });
    change({ chosen: "" });
    toast(`${ids.length} ${ids.length === 1 ? "run" : "runs"} ${archived ? "archived; is:archived shows them" : "unarchived"}`);
    await this.world.reload();
  }

  #open(id) {
    const run = this.world.byId.get(id);
    const tags = h("input", { type: "text", value: run.tags.join(", "), maxlength: "800" });
    const note = h("textarea", { rows: "5", maxlength: "4000" });
    note.value = run.note;
    const save = async (event) => {
      event.preventDefault();
      try {
        await post(`runs/${id}/notes`, { tags: tags.value.split(",").map((tag) => tag.trim()).filter(Boolean), note: note.value });
        document.getElementById("dialog").close();
        await this.world.reload();
      } catch (error) { toast(error.message, true); }
    };
    ask(run.name, h("p", { class: "sub" }, `${taskTitle(run.task)}, seed ${run.seed}, ${run.state} · `, h("code", {}, run.path)),
      h("form", { class: "stack", onsubmit: save }, h("label", {}, "Tags, separated by commas", tags), h("label", {}, "Note", note),
        h("div", { class: "toggles" }, h("button", { type: "submit", class: "primary" }, "Save"),
          h("button", { type: "button", class: "quiet", onclick: () => compare([id]) }, "Configuration"),
          h("button", { type: "button", class: "quiet", onclick: () => { document.getElementById("dialog").close(); change({ view: "fleet", run: id }, false); } }, "Fleet"),
          h("button", { type: "button", class: "quiet", onclick: () => { document.getElementById("dialog").close(); change({ view: "curves", task: run.task }, false); } }, "Show its curves")),
        h("p", { class: "sub" }, "Kept as notes.json in the run directory.")));
  }
}

async function compare(ids) {
  const { runs, fields } = await get("configuration", { runs: ids.join(",") });
  const names = Object.keys(fields);
  const shown = (value) => (value === null || value === undefined || value === "" ? "–" : typeof value === "object" ? JSON.stringify(value) : String(value));
  ask(runs.length === 1 ? `Configuration of ${runs[0].name}` : `Where ${runs.length} configurations differ`,
    names.length ? h("div", { class: "table-box", tabindex: "0" }, h("table", { class: "differences" },
      h("thead", {}, h("tr", {}, h("th", {}, "field"), runs.map((run) => h("th", {}, run.name)))),
      h("tbody", {}, names.map((name) => h("tr", {}, h("th", { scope: "row" }, name), fields[name].map((value) => h("td", {}, shown(value)))))))) : h("p", {}, "They are the same, seed and directory included."));
}

export function spark(values, stroke) {
  const good = values.filter((value) => value !== null);
  if (good.length < 2) return "";
  const low = Math.min(...good), high = Math.max(...good), range = high - low || 1;
  const points = good.map((value, place) => `${(place / (good.length - 1) * 100).toFixed(1)},${(24 - 21 * (value - low) / range).toFixed(1)}`);
  return h("svg:svg", { viewBox: "0 0 100 26", class: "spark-line", preserveAspectRatio: "none", "aria-hidden": "true" },
    h("svg:polyline", { points: points.join(" "), fill: "none", stroke, "stroke-width": "2", "vector-effect": "non-scaling-stroke", "stroke-linejoin": "round" }));
}
