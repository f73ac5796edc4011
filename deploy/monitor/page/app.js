// The page: what the server knows of its runs, and the view that is looked at.

import { get, listen } from "./api.js";
import { AlertsView } from "./alerts.js";
import { CurvesView } from "./curves.js";
import { ask, h, toast } from "./dom.js";
import { FleetView } from "./fleet.js";
import { HealthView } from "./health.js";
import { MetricsView } from "./metrics.js";
import { RunsView } from "./runs.js";
import { change, link, onChange, remember, state } from "./state.js";

const VIEWS = [["curves", "Curves", CurvesView], ["metrics", "Metrics", MetricsView], ["runs", "Runs", RunsView], ["health", "Health", HealthView], ["fleet", "Fleet", FleetView], ["alerts", "Alerts", AlertsView]];
const world = { runs: [], byId: new Map(), alerts: 0, tasks: [], suites: [], baselines: [], folders: [], loaded: false, reload };
const main = document.getElementById("main");
let view = null;
let shown = "";

let asked = 0, answered = 0;

async function reload(changed = null) {
  const turn = ++asked;
  const table = await get("runs", { filter: state.filter });
  if (turn > answered) { // an older answer may come later
    answered = turn;
    take(table);
  }
  if (!view || shown !== state.view) open();
  else view.refresh(changed);
}

function take(table) {
  document.getElementById("filter-error").hidden = true;
  Object.assign(world, { runs: table.runs, tasks: table.tasks, suites: table.suites, baselines: table.baselines, folders: table.folders, loaded: true });
  world.byId = new Map(table.runs.map((run) => [run.id, run]));
  tabs();
}

function open() {
  view?.destroy();
  const found = VIEWS.find(([name]) => name === state.view) ?? VIEWS[0];
  shown = state.view;
  document.body.dataset.view = state.view;
  view = new found[2](main, world);
  tabs();
}

function tabs() {
  const live = world.runs.filter((run) => run.active).length;
  const counts = { runs: world.runs.filter((run) => run.selected).length, alerts: world.alerts };
  document.getElementById("tabs").replaceChildren(...VIEWS.map(([name, text], place) => h("a", {
    href: link({ view: name }), "aria-current": state.view === name ? "page" : null, title: `${text} (${place + 1})`,
    onclick: (event) => { event.preventDefault(); change({ view: name }, false); },
  }, text, counts[name] ? h("small", { class: name === "alerts" ? "alarm" : "" }, counts[name]) : null)));
  document.title = `${world.alerts ? `(${world.alerts}) ` : ""}${live ? `${live} live · ` : ""}Nexus`;
}

async function alarms() {
  const { raised, events } = await get("alerts");
  const newest = events[0];
  if (world.heard !== undefined && newest && newest.event === "raised" && newest.time > world.heard) toast(newest.text, true);
  world.heard = newest?.time ?? 0;
  world.alerts = raised.length;
  tabs();
  if (shown === "alerts") view?.refresh();
}

let pending = false;
let everything = false;
const waiting = new Set();

function news(message) {
  if (message.alarmed) alarms().catch(() => {});
  for (const id of message.changed) waiting.add(id);
  everything ||= message.gone.length > 0;
  if (pending) return;
  pending = true;
  setTimeout(async () => {
    const ids = everything ? null : [...waiting];
    waiting.clear();
    everything = false;
    try { await reload(ids); } catch { /* the next message asks again */ }
    pending = false;
    if (waiting.size || everything) news({ changed: [], gone: [] }); // came while it was asked
  }, 150);
}

let begun = false;

function linked(up) {
  const mark = document.getElementById("link");
  mark.className = up ? "pulse up" : "pulse";
  mark.lastChild.textContent = up ? "live" : "offline";
  if (up && begun) reload().catch(problem);
  alarms().catch(() => {}); // a server that has begun anew asks for its token
  begun = true;
}

function problem(error) {
  const field = document.getElementById("filter-error");
  field.textContent = error.message;
  field.hidden = false;
}

const filter = document.getElementById("filter");
let typing = null;
filter.value = state.filter;
filter.addEventListener("input", () => {
  clearTimeout(typing);
  typing = setTimeout(() => change({ filter: filter.value.trim() }), 200);
});

onChange(async (changes) => {
  if ("filter" in changes) {
    if (document.activeElement !== filter) filter.value = state.filter;
    try { await reload(); } catch (error) { problem(error); return; }
  }
  if (shown !== state.view) { open(); scrollTo(0, 0); return; }
  tabs();
  view?.stateChanged(changes);
});

function switchTheme() {
  const next = document.documentElement.dataset.theme === "dark" ? "light" : "dark";
  document.documentElement.dataset.theme = next;
  remember("nexus.theme", next);
  open();
}

const KEYS = [["1 2 3 4 5 6", "curves, metrics, runs, health, fleet, alerts"], ["/", "filter"], ["T", "light or dark"], ["?", "these keys"],
  ["← →", "on a chart: read values"], ["+ −", "on a chart: zoom; Escape shows everything again"], ["← → space", "on Health: step through all videos, play"], ["drag", "zoom; double click shows everything again"]];

function help() {
  ask("Keyboard", h("dl", { class: "keys" }, KEYS.map(([key, text]) => [h("dt", {}, key.split(" ").map((one) => h("kbd", {}, one))), h("dd", {}, text)])),
    h("p", { class: "sub" }, "Filters: words, task:NAME, tag:NAME, state:training, is:live, is:archived, score>400, frames<1e6, any field of the configuration as train_ratio=32, and -TERM for not."));
}

document.getElementById("theme").addEventListener("click", switchTheme);
document.getElementById("help").addEventListener("click", help);
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", (event) => {
  document.documentElement.dataset.theme = event.matches ? "dark" : "light";
  open();
});
addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.target.closest("input, textarea, select, dialog")) return;
  const place = Number(event.key) - 1;
  if (event.key === "/") { filter.focus(); filter.select(); }
  else if (event.key === "t") switchTheme();
  else if (event.key === "?") help();
  else if (VIEWS[place]) change({ view: VIEWS[place][0] }, false);
  else return;
  event.preventDefault();
});
filter.addEventListener("keydown", (event) => { if (event.key === "Escape") filter.blur(); });

document.fonts?.load("12px Inter").then(() => view?.retyped?.());
reload().catch(problem);
listen(news, linked);
addEventListener("unhandledrejection", (event) => toast(event.reason?.message ?? "Something went wrong.", true));
