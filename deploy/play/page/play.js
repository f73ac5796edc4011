// The page: a world that is played as long as a key is held, a step in flight at a time.

import { connect } from "./connection.js";
import { ask, fill, h, segmented, toast, toggle } from "./dom.js";
import { Keys } from "./keys.js";
import { recall, remember } from "./memory.js";
import { Meters } from "./meters.js";
import { Pad } from "./pad.js";
import { Screen } from "./screen.js";
import { Starts } from "./starts.js";

const RATES = [1, 30];
const at = (id) => document.getElementById(id);
const screen = new Screen(at("screen"), at("trail"));
const meters = new Meters(at("meters"));
const state = { view: "dream", follow: false, idle: "", rate: recall("nexus.play.rate", 10), recording: false };
let hello = null, pad = null, keys = null, starts = null;
let begun = null; // the number of the world that is played; null: none
let flying = null; // the request that is being answered
let tapped = null; // an action that was pressed and not taken yet, however short the tap
let timer = null, due = 0;
const held = []; // actions whose keys are down, the newest last

function wanted() {
  if (begun === null || document.hidden) return null;
  if (tapped !== null) return { do: "step", action: tapped };
  if (held.length) return { do: "step", action: held.at(-1) };
  if (state.follow) return { do: "follow" };
  return state.idle === "" ? null : { do: "step", action: Number(state.idle) };
}

function pump() {
  if (flying || timer !== null || !wanted()) return;
  timer = setTimeout(() => {
    timer = null;
    if (flying) return;
    const request = wanted();
    if (!request) return pad.light(null); // released while it waited
    due = Math.max(due + 1000 / state.rate, performance.now());
    if (request.action === tapped) tapped = null;
    flying = request;
    pad.light(request.action ?? null);
    link.send(request);
  }, Math.max(0, due - performance.now()));
}

function press(action) {
  if (held.includes(action)) return;
  held.push(action);
  tapped = action;
  if (state.follow) follow(false);
  pump();
}

function release(action) {
  const place = held.indexOf(action);
  if (place >= 0) held.splice(place, 1);
}

function releaseAll() { held.splice(0); }

function begin(chosen = starts.chosen) {
  begun = flying = tapped = null;
  releaseAll();
  state.follow = false;
  link.send({ do: "begin", ...chosen });
}

const RECEIVERS = {
  hello(message) {
    hello = message;
    at("name").textContent = hello.name;
    document.title = `${hello.name} · Nexus`;
    if (!starts || starts.recordings.length !== hello.recordings.length || keys.actions !== hello.actions) {
      keys = new Keys(hello.name, hello.actions);
      pad?.end();
      pad = new Pad(at("pad"), keys, { press, release });
      starts = new Starts(at("strip"), at("begin-at"), hello, begin);
      at("pad-hint").textContent = "loops show what each does; hold one to play";
    }
    begin();
  },
  frame(message) {
    const fresh = message.step === 0;
    if (!fresh && begun !== message.begun) return; // of a world that has been left
    screen.frame(message);
    screen.say("");
    if (fresh) {
      begun = message.begun;
      pad.clear(message.pictures[0]);
      meters.begin(message);
      screen.begin();
      if (!starts.continues) state.view = "dream";
    } else {
      meters.step(message);
      screen.took(flying?.action ?? null);
    }
    landed();
    if (fresh) controls();
  },
  over() {
    toast("The recording is over; the world goes on with your keys.");
    follow(false);
    landed();
  },
  preview(message) { if (message.begun === begun) pad.add(message.pictures); },
  recording() { record(true); },
  film({ data, frames, full }) {
    record(false);
    if (full) toast("The film was full: what came later is not on it.", true);
    if (!frames) return;
    const anchor = h("a", { href: URL.createObjectURL(new Blob([data], { type: "video/mp4" })), download: `${hello.name.split("/").at(-1).replace(/[^\w.-]+/g, "_") || "world"}.mp4` });
    anchor.click();
    setTimeout(() => URL.revokeObjectURL(anchor.href), 10000);
    toast(`${frames} frames saved as ${anchor.download}.`);
  },
  error({ text }) { toast(text, true); landed(); },
  full({ text }) { over(text, "Try again"); },
  idle({ text }) { over(text, "Play again"); },
  broken({ text }) { over(text, "Try again"); },
};

function landed() {
  flying = null;
  pump();
  if (!wanted()) pad.light(null);
}

function over(text, label) {
  screen.say(text, label, () => { screen.say("Connecting"); link.again(); });
}

function linked(up, ended) {
  const mark = at("link");
  mark.className = up ? "pulse up" : "pulse";
  mark.lastChild.textContent = up ? "live" : "offline";
  if (up) return;
  begun = flying = null;
  releaseAll();
  record(false);
  if (!ended) screen.say("The connection is lost; trying again. Your world has ended with it.");
}

const link = connect((message) => { if (message.kind === "hello") linked(true); RECEIVERS[message.kind]?.(message); }, linked);

function follow(on) {
  state.follow = on;
  controls();
  pump();
}

function record(on) {
  state.recording = on;
  screen.rec.hidden = !on;
  controls();
}

function switchRecord() {
  link.send(state.recording ? { do: "cut" } : { do: "record", fps: state.rate, beside: state.view === "both" });
}

function view(next) {
  state.view = next;
  controls();
}

function controls() {
  if (!starts) return;
  screen.show(state.view);
  const views = [["dream", "Dream", "The generated world"], ["truth", "Truth", "The recording at the same step"], ["both", "Both", "Side by side"]];
  const focused = [...at("deck").querySelectorAll("button, input, select")].indexOf(document.activeElement);
  fill(at("deck"),
    h("button", { type: "button", class: "quiet big-button", id: "reset", title: "Begin again (Backspace)", onclick: () => begin() }, "↺ Reset"),
    h("button", { type: "button", class: state.recording ? "danger big-button" : "quiet big-button", id: "record", title: "Record what you see as MP4 (R)", "aria-pressed": String(state.recording), onclick: switchRecord },
      h("i", { class: "dot" }), state.recording ? "Stop" : "Record"),
    starts.continues && toggle("Follow", state.follow, follow, "Take the actions that were found in the recording (F)"),
    starts.continues && segmented("View (V)", views, state.view, view),
    h("label", { class: "slider" }, h("span", { class: "legend" }, "Frames a second"),
      h("input", { type: "range", id: "rate", min: String(RATES[0]), max: String(RATES[1]), value: String(state.rate), oninput: (event) => {
        state.rate = Number(event.target.value);
        remember("nexus.play.rate", state.rate);
        event.target.nextSibling.textContent = String(state.rate);
      } }), h("output", {}, String(state.rate))),
    h("label", { class: "pick" }, h("span", { class: "legend" }, "Without a key"),
      h("select", { id: "idle", onchange: (event) => { state.idle = event.target.value; event.target.blur(); pump(); } },
        h("option", { value: "" }, "wait"),
        Array.from({ length: hello.actions }, (_, action) => h("option", { value: String(action), selected: state.idle === String(action) }, `action ${action + 1}`)))));
  if (focused >= 0) at("deck").querySelectorAll("button, input, select")[focused]?.focus();
}

function switchTheme() {
  const next = document.documentElement.dataset.theme === "dark" ? "light" : "dark";
  document.documentElement.dataset.theme = next;
  remember("nexus.theme", next);
  pad?.recolour();
  screen.trace();
}

function help() {
  const lines = [["1 2 3", "take an action; hold to go on"], ["+ key", "on an action, then a key: arrows or letters for it"], ["⌫", "begin again"],
    ["R", "record, and save the film"], ["F", "follow the recording"], ["V", "dream, truth, both"], ["T", "light or dark"]];
  ask("Keys", h("dl", { class: "keys" }, lines.map(([key, text]) => [h("dt", {}, (key === "+ key" ? [key] : key.split(" ")).map((one) => h("kbd", {}, one))), h("dd", {}, text)])),
    h("p", { class: "sub" }, "Your world is yours alone and ends when you leave the page. Drift compares how well the tokenizer redraws a frame with how well it redrew the first one."));
}

const SHORT = {
  backspace: () => begin(), r: switchRecord, t: switchTheme, "?": help,
  f: () => starts.continues && follow(!state.follow),
  v: () => starts.continues && view({ dream: "truth", truth: "both", both: "dream" }[state.view]),
};
const down = new Map(); // the action that each key took when it was pressed

addEventListener("keydown", (event) => {
  if (!pad || event.ctrlKey || event.metaKey || event.altKey || event.target.closest("dialog")) return;
  if (pad.takes(event)) { event.preventDefault(); return; }
  const action = keys.action(event);
  if (action !== null) {
    if (event.target.closest("input, select, [role=radio]") && event.key.length > 1) return; // arrows are theirs
    event.preventDefault();
    if (!event.repeat) { down.set(event.code, action); press(action); }
    return;
  }
  const short = SHORT[event.key.toLowerCase()];
  if (!short || event.repeat) return;
  event.preventDefault();
  short();
});
addEventListener("keyup", (event) => {
  const action = down.get(event.code);
  down.delete(event.code);
  if (action !== undefined && ![...down.values()].includes(action)) release(action);
});
addEventListener("blur", () => { down.clear(); releaseAll(); });
document.addEventListener("visibilitychange", () => { releaseAll(); pump(); });
at("theme").addEventListener("click", switchTheme);
at("help").addEventListener("click", help);
addEventListener("unhandledrejection", (event) => toast(event.reason?.message ?? "Something went wrong.", true));
