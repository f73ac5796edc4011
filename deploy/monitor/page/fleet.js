// The fleet of one run: its workers and processes, the limiter, replay, restarts; and its controls.

import { get, post } from "./api.js";
import { ask, fill, h, toast } from "./dom.js";
import { ago, bytes, counted, duration, short, taskTitle, whole } from "./format.js";
import { change, state } from "./state.js";

const NAMES = { coordinator: "Coordinator", learner: "Learner", evaluator: "Evaluator" };

export class FleetView {
  constructor(main, world) {
    this.world = world;
    this.picker = h("div", { class: "controls", role: "toolbar", "aria-label": "Which run" });
    this.body = h("div", { class: "fleet" });
    main.replaceChildren(this.picker, this.body);
    this.clock = setInterval(() => this.refresh(), 2000);
    this.refresh();
  }

  destroy() { clearInterval(this.clock); }

  stateChanged(changes) { if ("run" in changes || "filter" in changes) { this.report = null; this.refresh(); } }

  async refresh() {
    const runs = this.world.runs.filter((run) => run.selected);
    runs.sort((one, other) => Number(other.active) - Number(one.active) || Number(other.mode !== "inline") - Number(one.mode !== "inline") || other.changed - one.changed);
    const run = this.world.byId.get(state.run) ?? runs[0];
    if (!run) { fill(this.body, h("div", { class: "card empty" }, h("h2", {}, "No run matches the filter"))); fill(this.picker); return; }
    const choices = JSON.stringify(runs.map((one) => [one.id, one.name, one.state]));
    if (choices !== this.choices) {
      this.choices = choices;
      fill(this.picker, h("label", { class: "pick" }, h("span", { class: "legend" }, "Run"), h("select", { class: "wide", onchange: (event) => change({ run: event.target.value }) },
        runs.map((one) => h("option", { value: one.id, selected: one.id === run.id }, `${one.name} · ${one.state}`)))));
    }
    if (this.busy) return;
    this.busy = true;
    try { this.#draw(await get("fleet", { run: run.id })); } catch (error) { fill(this.body, h("p", { class: "card empty" }, error.message)); }
    this.busy = false;
  }

  #draw(fleet) {
    const open = new Set([...this.body.querySelectorAll("details[open]")].map((one) => one.dataset.name));
    const focused = document.activeElement?.dataset?.key;
    const { actors, ratio, replay, snapshot } = fleet;
    const gb = replay.shards.reduce((sum, shard) => sum + (shard.gb ?? 0), 0), most = replay.shards.reduce((sum, shard) => sum + (shard.max_gb ?? 0), 0);
    const restarts = Object.values(fleet.restart_counts).reduce((sum, one) => sum + one, 0);
    fill(this.body,
      h("section", { class: "card fleet-head" },
        h("div", {}, h("h1", {}, fleet.name), h("p", { class: "sub" }, `${taskTitle(fleet.task)} · ${fleet.mode || "unknown"} mode `, h("span", { class: `state-chip ${fleet.state}` }, fleet.state),
          fleet.reason ? h("span", { class: "bad-text" }, ` ${fleet.reason}`) : null),
        h("div", { class: "progress" }, h("progress", { max: "1", value: String(fleet.planned ? Math.min(1, fleet.frames / fleet.planned) : 0), "aria-label": "Frames done" }),
          h("span", {}, `${whole(fleet.frames)} of ${whole(fleet.planned)} frames`, remaining(fleet)))),
        this.#controls(fleet)),
      h("div", { class: "tiles" },
        tile("Acting", `${short(fleet.frames_per_second)}`, "frames a second"),
        tile("Learning", short(fleet.updates_per_second), "updates a second"),
        tile("Train ratio", short(ratio.actual), `of ${short(ratio.asked)} asked for`, ratio.says),
        tile("Policy lag", snapshot.lag_seconds === undefined ? "–" : duration(snapshot.lag_seconds), snapshot.lag_updates === undefined ? "" : `${short(snapshot.lag_updates)} updates behind the learner`),
        tile("Replay", gb ? bytes(gb * 1e9) : "–", most ? `of ${bytes(most * 1e9)} allowed` : "", replay.down.length ? `down: ${replay.down.join(", ")}` : ""),
        tile("Restarts", whole(restarts), Object.entries(fleet.failures).filter(([, count]) => count).map(([kind, count]) => `${kind} ${count}`).join(", ") || "no environment has failed"),
        gpu(fleet.gpu),
        fleet.machine ? tile("This machine", `${short(fleet.machine.cpus)} / ${fleet.machine.of}`, `CPUs busy; ${bytes(fleet.machine.memory)} of ${bytes(fleet.machine.total)}`) : null),
      actors.each.length ? this.#workers(fleet) : h("p", { class: "card empty" }, fleet.mode === "inline" ? "An inline run is one process: it acts and learns in turns, and takes no requests." : "This run has no workers at the moment."),
      fleet.processes.length || replay.shards.length ? h("div", { class: "halves" }, this.#processes(fleet), this.#shards(replay)) : null,
      fleet.scaling.length || fleet.autoscale.on ? this.#scaling(fleet) : null,
      fleet.restarts.length ? h("section", { class: "card block" }, h("h2", {}, "Restarts"), h("ul", { class: "events" }, fleet.restarts.slice(0, 12).map((one) => h("li", {}, h("b", {}, one.process), h("span", {}, one.reason), h("small", {}, ago(one.time)))))) : null,
      Object.keys(fleet.quarantined).length ? h("section", { class: "card block" }, h("h2", {}, "Environments in quarantine"), h("ul", { class: "events" }, Object.entries(fleet.quarantined).map(([index, why]) => h("li", {}, h("b", {}, `environment ${index}`), h("span", {}, String(why)))))) : null,
      fleet.logs.length ? h("section", { class: "card block" }, h("h2", {}, "Last errors and tracebacks"), fleet.logs.map((log) => h("details", { data: { name: log.name }, open: open.has(log.name) },
        h("summary", {}, log.name, h("small", {}, ago(log.changed))), h("pre", { tabindex: "0" }, log.text)))) : null);
    if (focused) this.body.querySelector(`[data-key="${focused}"]`)?.focus();
  }

  #controls(fleet) {
    if (!fleet.active || fleet.mode === "inline" || !fleet.status) return null;
    const { actors } = fleet;
    if (this.wanted?.run !== fleet.run || (this.wanted.was !== actors.target && !this.wanted.touched)) this.wanted = { run: fleet.run, was: actors.target, value: actors.target };
    const number = h("output", { class: "count-output", "aria-live": "polite" }, this.wanted.value);
    const apply = h("button", { type: "button", class: "primary", data: { key: "apply" }, disabled: this.wanted.value === actors.target, onclick: () => this.#scale(fleet) }, "Apply");
    const step = (by) => () => {
      this.wanted.value = Math.max(1, this.wanted.value + by);
      this.wanted.touched = this.wanted.value !== actors.target;
      number.textContent = this.wanted.value;
      apply.disabled = !this.wanted.touched;
    };
    return h("div", { class: "steer", role: "group", "aria-label": "Steer the run" },
      actors.target ? h("div", { class: "stepper" }, h("span", { class: "legend" }, "Env workers"),
        h("button", { type: "button", class: "quiet", "aria-label": "One fewer worker", data: { key: "less" }, onclick: step(-1) }, "−"), number,
        h("button", { type: "button", class: "quiet", "aria-label": "One more worker", data: { key: "more" }, onclick: step(1) }, "+"), apply,
        fleet.autoscale.on ? h("span", { class: "state-chip training", title: "Applying a number ends that." }, "chosen by the run")
          : h("button", { type: "button", class: "quiet", title: "Let the run choose the number by who waits for whom", data: { key: "auto" }, onclick: () => this.#auto(fleet) }, "Auto")) : null,
      h("button", { type: "button", class: "quiet", data: { key: "checkpoint" }, onclick: () => steer(fleet, { checkpoint: true }, (answer) => `Checkpoint of update ${answer.checkpoint} is saved.`) }, "Checkpoint"),
      h("button", { type: "button", class: "danger", data: { key: "stop" }, onclick: () => confirm(`Stop ${fleet.name}?`, "It saves a checkpoint and ends. The same command continues it.", "Stop it", () => steer(fleet, { stop: true }, () => "It saves and ends.")) }, "Stop"));
  }

  #scaling({ scaling, autoscale }) {
    return h("section", { class: "card block" }, h("h2", {}, "Changes of the number of workers", h("small", {}, autoscale.on ? ` by the run itself, ${autoscale.least} to ${autoscale.most}: ${autoscale.says}` : "")),
      scaling.length ? h("ul", { class: "events" }, scaling.slice(0, 12).map((one) => h("li", {}, h("b", {}, `${one.before} → ${one.after}`), h("span", {}, one.reason), h("small", {}, ago(one.time))))) : null);
  }

  #scale(fleet) {
    const { value, was } = this.wanted;
    const less = value < was ? " Those with the highest numbers store what they have done, and end." : " Each further one has as many environments as the largest share of the first ones.";
    confirm(`${was} → ${value} env workers?`, `${fleet.name} changes while it trains.${less}`, `Scale to ${value}`, async () => {
      await steer(fleet, { actors: value }, (answer) => `Workers ${answer.actors[0]} → ${answer.actors[1]}, environments ${answer.environments[0]} → ${answer.environments[1]}.`);
      this.wanted = null;
      this.refresh();
    });
  }

  #auto(fleet) {
    confirm("Let the run choose the number of env workers?", `${fleet.name} adds workers while the learner waits for data, and removes them while they wait for the learner. Applying a number ends that.`, "Let it choose", async () => {
      await steer(fleet, { actors: "auto" }, (answer) => `The run chooses the number of workers, ${answer.autoscale[0]} to ${answer.autoscale[1]}.`);
      this.refresh();
    });
  }

  #workers(fleet) {
    const { actors } = fleet;
    return h("section", { class: "card block" }, h("h2", {}, `Env workers`, h("small", {}, ` ${actors.running} of ${actors.target} ${fleet.active ? "running" : "at the end"}, ${counted(actors.environments ?? 0, "environment")}`)),
      h("div", { class: "table-box", tabindex: "0" }, h("table", {}, h("thead", {}, h("tr", {}, ["Worker", "State", "Last report", "Environments", "Steps/s", "Policy behind", "Restarts", "CPU", "Memory", "Process"].map((text) => h("th", {}, text)))),
        h("tbody", {}, actors.each.map((one) => {
          const quiet = one.seconds_since_report;
          return h("tr", {}, h("td", {}, h("b", {}, `actor ${one.number}`)), h("td", {}, fleet.active ? workerState(one) : h("span", { class: "state-chip" }, "ended")),
            h("td", {}, h("span", { class: quiet > 60 ? "bad-text" : "" }, quiet === null || quiet === undefined ? "–" : `${duration(quiet)} ago`)),
            h("td", {}, one.environments), h("td", {}, short(one.steps_per_second)), h("td", {}, one.behind === null ? "–" : counted(one.behind, "snapshot")),
            h("td", {}, one.restarts), h("td", {}, one.cpus === undefined ? "–" : short(one.cpus)), h("td", {}, one.memory === undefined ? "–" : bytes(one.memory)), h("td", {}, h("small", {}, one.process ?? "–")));
        }), Object.entries(actors.given_up ?? {}).map(([name, why]) => h("tr", {}, h("td", {}, h("b", {}, `actor ${name}`)), h("td", { colspan: "9", class: "bad-text wrap" }, `given up: ${why}`)))))));
  }

  #processes(fleet) {
    return h("section", { class: "card block" }, h("h2", {}, "Other processes"), h("div", { class: "table-box" }, h("table", {},
      h("thead", {}, h("tr", {}, ["Process", "Last sign", "Restarts", "CPU", "Memory"].map((text) => h("th", {}, text)))),
      h("tbody", {}, fleet.processes.map((one) => h("tr", {}, h("td", {}, h("b", {}, NAMES[one.name] ?? one.name)), h("td", {}, `${duration(one.seconds_since_sign)} ago`),
        h("td", {}, fleet.restart_counts[one.name] ?? 0), h("td", {}, one.cpus === undefined ? "–" : short(one.cpus)), h("td", {}, one.memory === undefined ? "–" : bytes(one.memory))))))));
  }

  #shards(replay) {
    return h("section", { class: "card block" }, h("h2", {}, "Replay shards"), h("div", { class: "table-box" }, h("table", {},
      h("thead", {}, h("tr", {}, ["Shard", "Size", "Steps", "Mean age", "Evicted"].map((text) => h("th", {}, text)))),
      h("tbody", {}, replay.shards.map((shard) => h("tr", {}, h("td", {}, h("b", {}, shard.name), replay.down.includes(shard.name) ? h("span", { class: "state-chip failed" }, "down") : null),
        h("td", {}, bytes((shard.gb ?? 0) * 1e9), shard.max_gb ? h("progress", { max: "1", value: String(shard.gb / shard.max_gb), "aria-label": "Share of the memory allowed" }) : null),
        h("td", {}, whole(shard.steps)), h("td", {}, `${short(shard.age)} steps`), h("td", {}, whole(shard.evicted))))))));
  }
}

function workerState(one) {
  const [text, kind] = one.leaving ? ["ending", "saving"] : one.waits_for ? [`waits for ${one.waits_for}`, ""] : one.idle ? ["no environment left", "failed"]
    : one.seconds_since_report > 60 ? ["silent", "failed"] : one.version === null || one.version === undefined ? ["starting", "starting"] : ["acting", "training"];
  return h("span", { class: `state-chip ${kind}` }, text);
}

function tile(name, value, detail, remark) {
  return h("section", { class: "card tile" }, h("h2", {}, name), h("p", { class: "big" }, value), h("p", { class: "sub" }, detail), remark ? h("p", { class: remark.startsWith("neither") ? "remark" : "remark waits" }, remark) : null);
}

function gpu({ utilisation, memory_gb: used, memory_limit_gb: most, learner_memory_gb: own }) {
  if (used === null) return tile("GPU", "no GPU", "the learner works on a CPU");
  const memory = `${bytes(used * 1e9)} of ${bytes(most * 1e9)}`;
  return utilisation === null ? tile("GPU", bytes(used * 1e9), `of ${bytes(most * 1e9)} in use, ${bytes(own * 1e9)} by the learner`, "pip install nvidia-ml-py shows how busy it is")
    : tile("GPU", `${Math.round(100 * utilisation)} %`, `busy; ${memory}, ${bytes(own * 1e9)} by the learner`);
}

function remaining(fleet) {
  const left = (fleet.planned - fleet.frames) / fleet.frames_per_second;
  return fleet.active && Number.isFinite(left) && left > 0 ? h("small", {}, ` · about ${duration(left)} left`) : null;
}

function confirm(title, text, action, then) {
  const dialog = ask(title, h("p", {}, text), h("div", { class: "toggles confirm" },
    h("button", { type: "button", class: "primary", autofocus: true, onclick: () => { dialog.close(); then(); } }, action),
    h("button", { type: "button", class: "quiet", onclick: () => dialog.close() }, "Cancel")));
  dialog.querySelector(".primary").focus();
}

async function steer(fleet, request, said) {
  toast("Asked; waiting for the run to answer.");
  try { toast(said(await post(`runs/${fleet.run}/control`, request))); } catch (error) { toast(error.message, true); }
}
