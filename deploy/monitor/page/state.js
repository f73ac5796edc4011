// What is looked at, as the fragment of the URL says it: a link shows another person the same.

export const DEFAULTS = {
  view: "curves", task: "", axis: "frames", stat: "mean", band: "interval", kind: "train", value: "score", bins: "50",
  baselines: "on", log: "off", filter: "", hidden: "", off: "", reach: "", smooth: "0.9", logy: "off", pins: "", chosen: "",
  sort: "changed", down: "on", mtask: "", run: "", health: "", hkey: "", at: "", goal: "", theme: "",
};
const PINNED = ["train/loss/total", "episode/score", "train/imagination/return", "fps/env", "replay/ratio", "policy/lag"];
DEFAULTS.pins = remembered("nexus.pins") ?? PINNED.join(",");
const listeners = new Set();
export const state = { ...DEFAULTS };

function read() {
  const [path, query = ""] = location.hash.replace(/^#\/?/, "").split("?");
  const given = new URLSearchParams(query);
  for (const key of Object.keys(DEFAULTS)) state[key] = given.get(key) ?? DEFAULTS[key];
  if (["curves", "metrics", "runs", "health", "fleet", "alerts"].includes(path)) state.view = path;
}

export function link(changes = {}) {
  const next = { ...state, ...changes };
  const query = new URLSearchParams();
  for (const [key, value] of Object.entries(next)) {
    if (key !== "view" && key !== "theme" && value !== DEFAULTS[key]) query.set(key, value);
  }
  const text = query.toString().replaceAll("%2F", "/").replaceAll("%2C", ",").replaceAll("%3A", ":");
  return `#/${next.view}${text ? `?${text}` : ""}`;
}

export function change(changes, replace = true) {
  if ("pins" in changes) remember("nexus.pins", changes.pins);
  const url = link(changes);
  Object.assign(state, changes);
  if (replace) history.replaceState(null, "", url);
  else history.pushState(null, "", url);
  for (const listener of listeners) listener(changes);
}

export function onChange(listener) { listeners.add(listener); }

export function list(key) { return state[key] ? state[key].split(",") : []; }

export function switched(key, item) {
  const items = list(key);
  return (items.includes(item) ? items.filter((one) => one !== item) : [...items, item]).join(",");
}

export function remembered(key) {
  try { return localStorage.getItem(key); } catch { return null; }
}

export function remember(key, value) {
  try { localStorage.setItem(key, value); } catch { /* storage may be off */ }
}

addEventListener("popstate", () => {
  const before = { ...state };
  read();
  const changed = Object.fromEntries(Object.entries(state).filter(([key, value]) => before[key] !== value));
  for (const listener of listeners) listener(changed);
});
read();
