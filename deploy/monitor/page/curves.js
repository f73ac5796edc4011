// Sample-efficiency curves: one large chart of the chosen task, small ones of the others.

import { get } from "./api.js";
import { Chart } from "./chart.js";
import { fill, h, refill, segmented, toggle } from "./dom.js";
import { saveCsv, savePng, saveSvg } from "./export.js";
import { counted, duration, score, short, taskTitle } from "./format.js";
import { colour, css, dash, publishedColour, publishedName } from "./palette.js";
import { change, link, list, state, switched } from "./state.js";
import { SuitePanel, isSuite } from "./suite.js";

export const X_NAMES = { frames: "environment frames, action repeats counted", hours: "time of training, pauses left out", updates: "gradient updates" };
export const HOUR_STEPS = [1, 2, 5, 10, 15, 30].map((minutes) => minutes / 60).concat([1, 2, 3, 6, 12, 24, 48, 120, 240, 480]);
const Y_NAMES = { score: "episode return", length: "episode length in frames", is_success: "success rate" };
const STATISTICS = { mean: "mean", median: "median", iqm: "interquartile mean" };

export class CurvesView {
  constructor(main, world) {
    this.world = world;
    this.cards = new Map();
    this.answers = new Map();
    this.controls = h("div", { class: "controls", role: "toolbar", "aria-label": "How curves are drawn" });
    this.hero = h("section", { class: "card hero", "aria-label": "Curves of the chosen task" });
    this.rest = h("div", { class: "grid" });
    main.replaceChildren(this.controls, this.hero, this.rest);
    this.seen = new IntersectionObserver((entries) => {
      for (const entry of entries) if (entry.isIntersecting) { const card = this.cards.get(entry.target.dataset.task); if (card && card.stale) this.#later(card); }
    }, { rootMargin: "300px" });
    this.#controls();
    this.refresh(null);
  }

  destroy() {
    clearTimeout(this.soon);
    this.seen.disconnect();
    for (const card of this.cards.values()) card.chart?.destroy();
    this.big?.chart?.destroy();
    this.big?.suite?.destroy();
  }

  /** changed: ids of runs, or null for everything. */
  refresh(changed) {
    const tasks = this.world.tasks.filter((one) => one.runs > 0 && one.scores);
    this.tasks = [...tasks].sort((one, other) => other.live - one.live || other.changed - one.changed || one.task.localeCompare(other.task));
    if (!this.tasks.length) return this.#empty();
    this.entries = [...this.world.suites, ...this.tasks];
    const chosen = this.entries.find((one) => one.task === state.task) ?? this.#kept() ?? this.tasks[0];
    this.chosen = chosen.task;
    const touched = changed && new Set(changed.map((id) => this.world.byId.get(id)?.task));
    for (const suite of touched ? this.world.suites : []) if (suite.tasks.some((task) => touched.has(task))) touched.add(suite.task);
    if (!this.big || this.big.task !== chosen.task) this.#hero(chosen.task);
    else if (!touched || touched.has(chosen.task)) this.first = this.#load(this.big);
    const others = this.entries.filter((one) => one.task !== chosen.task);
    const wanted = new Set(others.map((one) => one.task));
    for (const [task, card] of this.cards) if (!wanted.has(task)) { card.chart?.destroy(); this.seen.unobserve(card.root); card.root.remove(); this.cards.delete(task); }
    for (const { task } of others) {
      let card = this.cards.get(task);
      if (!card) {
        card = this.#small(task);
        this.cards.set(task, card);
        if (isSuite(task)) this.rest.prepend(card.root);
        else this.rest.append(card.root);
        this.seen.observe(card.root);
      } else if (!touched || touched.has(task)) {
        card.stale = true;
        const place = card.root.getBoundingClientRect();
        if (place.top < innerHeight + 300 && place.bottom > -300) this.#later(card);
      }
    }
  }

  stateChanged(changes) {
    if (!Object.keys(changes).some((key) => !["smooth", "logy", "pins", "chosen", "sort", "down", "mtask", "run", "health", "hkey"].includes(key))) return;
    this.#controls();
    if (["off", "band", "baselines", "log", "reach"].some((key) => key in changes)) {
      this.#redraw();
      if (Object.keys(changes).every((key) => ["off", "band", "baselines", "log", "reach"].includes(key))) return;
    }
    this.refresh(null);
  }

  /** The typeface has arrived: the axes are drawn again. */
  retyped() {
    for (const card of [this.big, ...this.cards.values()]) card?.chart?.redraw();
    this.big?.suite?.redraw();
  }

  #kept() { return this.chosen && this.entries.find((one) => one.task === this.chosen); }

  #empty() {
    this.big?.chart?.destroy();
    this.big = null;
    this.rest.replaceChildren();
    this.cards.clear();
    const some = this.world.runs.length;
    fill(this.hero, h("div", { class: "empty" },
      h("h2", {}, some ? "No run with scores matches the filter" : "No runs yet"),
      h("p", {}, some ? "Change the filter above, or show archived runs with is:archived." : `Runs below ${this.world.folders.join(", ")} appear here by themselves. Start one:`),
      some ? null : h("code", {}, "nexus train gym:CartPole-v1 --preset quick")));
  }

  #controls() {
    const set = (key) => (value, focus) => {
      change({ [key]: value });
      if (focus) this.controls.querySelector(`[data-key="${key}"] [aria-checked="true"]`)?.focus();
    };
    const keyed = (key, element) => { element.dataset.key = key; return element; };
    const values = this.big?.answer?.values ?? ["length", "score"];
    const bins = h("input", { type: "range", min: "10", max: "200", step: "5", value: state.bins, "aria-label": "Most points of a curve",
      oninput: (event) => { event.target.nextSibling.textContent = `${event.target.value} points`; }, onchange: (event) => change({ bins: event.target.value }) });
    refill(this.controls,
      keyed("axis", segmented("Against", [["frames", "Frames"], ["hours", "Time"], ["updates", "Updates"]], state.axis, set("axis"))),
      keyed("stat", segmented("Seeds", [["mean", "Mean"], ["median", "Median"], ["iqm", "IQM", "Interquartile mean: the mean of the middle half"]], state.stat, set("stat"))),
      keyed("band", segmented("Spread", [["interval", "95 %", "Bootstrap interval over seeds"], ["seeds", "Each seed"], ["none", "None"]], state.band, set("band"))),
      keyed("kind", segmented("Episodes", [["train", "Training"], ["eval", "Evaluation"]], state.kind, set("kind"))),
      h("label", { class: "pick" }, h("span", { class: "legend" }, "Value"),
        h("select", { onchange: (event) => change({ value: event.target.value }) },
          [...new Set([...values, state.value])].map((name) => h("option", { value: name, selected: name === state.value }, name)))),
      h("label", { class: "pick slider" }, h("span", { class: "legend" }, "Detail"), bins, h("output", {}, `${state.bins} points`)),
      h("div", { class: "toggles" },
        this.world.baselines.length ? toggle("Published", state.baselines === "on", (on) => change({ baselines: on ? "on" : "off" }), "Published curves on the same axes") : null,
        toggle("Log x", state.log === "on", (on) => change({ log: on ? "on" : "off" }))));
  }

  #hero(task) {
    this.big?.chart?.destroy();
    this.big?.suite?.destroy();
    const card = { task, big: true, stale: true };
    card.title = h("h1", {}, taskTitle(task));
    card.sub = h("p", { class: "sub" });
    card.body = h("div", { class: "chart-area" });
    card.legend = h("ul", { class: "legend-list", "aria-label": "Groups" });
    card.note = h("p", { class: "how" });
    card.goal = h("input", { type: "number", step: "any", value: state.reach, "aria-label": "Score to reach", onchange: (event) => change({ reach: event.target.value }) });
    card.goals = h("ul", { class: "goals" });
    card.reach = h("section", { class: "reach" }, h("label", {}, h("span", {}), card.goal), card.goals);
    this.hero.replaceChildren(
      h("header", {}, h("div", {}, card.title, card.sub),
        h("div", { class: "actions" },
          h("button", { type: "button", class: "quiet", onclick: () => savePng(card.chart, this.#caption(card)), title: "Download the picture" }, "PNG"),
          h("button", { type: "button", class: "quiet", onclick: () => saveSvg(card.chart, this.#caption(card)), title: "Download as vectors" }, "SVG"),
          h("button", { type: "button", class: "quiet", onclick: () => saveCsv(`${task}-${state.axis}`, card.answer), title: "Download the points" }, "CSV"),
          h("button", { type: "button", class: "quiet", onclick: (event) => copyLink(event.target), title: "Copy a link to exactly this" }, "Link"))),
      h("div", { class: "hero-body" }, card.body, h("aside", {}, card.legend, card.reach, card.note)));
    if (isSuite(task)) this.hero.append((card.suite = new SuitePanel()).root);
    card.chart = new Chart(card.body, { height: innerWidth < 700 ? 300 : Math.max(340, Math.min(540, innerHeight - 330)), label: `Score of ${task}` });
    this.big = card;
    this.first = this.#load(card);
  }

  #small(task) {
    const card = { task, big: false, stale: true };
    card.sub = h("span", { class: "sub" });
    card.best = h("span", { class: "last" });
    card.body = h("div", { class: "chart-area" });
    card.legend = h("p", { class: "mini-legend" });
    card.root = h("a", { class: "card small", href: link({ task }), data: { task }, onclick: (event) => {
      event.preventDefault();
      change({ task }, false);
      scrollTo({ top: 0, behavior: "smooth" });
    } }, h("header", {}, h("h2", {}, taskTitle(task)), card.best), card.body, h("footer", {}, card.legend, card.sub));
    card.chart = new Chart(card.body, { height: 190, compact: true, label: `Score of ${task}` });
    return card;
  }

  /** After the large chart, one at a time: what is asked for next waits for no queue. */
  #later(card) {
    this.queue = (this.queue ?? Promise.resolve()).then(() => this.first).then(() => (card.stale ? this.#load(card) : null));
  }

  /** From what is there: the large chart at once, the small ones after it. */
  #redraw() {
    const turn = this.turn = (this.turn ?? 0) + 1;
    const rest = [...this.cards.values()].filter((card) => card.answer);
    const next = () => {
      const card = turn === this.turn ? rest.shift() : null;
      if (!card) return;
      if (card.chart.plot) this.#draw(card);
      setTimeout(next);
    };
    if (this.big?.answer) this.#draw(this.big);
    setTimeout(next);
  }

  async #load(card) {
    if (card.loading) { card.again = true; return; }
    card.loading = true;
    card.stale = false;
    try {
      card.answer = await this.#ask(card, state.stat);
      this.#draw(card);
      if (card.big) this.#ahead(card);
    } catch (error) {
      card.body.dataset.error = error.message;
    }
    card.loading = false;
    if (card.again) { card.again = false; this.#load(card); }
  }

  #ask(card, statistic) {
    return get(isSuite(card.task) ? "suite" : "curves", {
      task: card.task, axis: state.axis, value: state.value, kind: state.kind, statistic, bins: state.bins,
      filter: state.filter, hidden: state.hidden, ...(isSuite(card.task) ? { at: state.at, goal: state.goal } : {}),
    });
  }

  /** Once nothing happens any more, the server computes the other statistics of the large chart, and keeps them. */
  #ahead(card) {
    clearTimeout(this.soon);
    this.soon = setTimeout(async () => {
      for (const other of Object.keys(STATISTICS)) if (other !== state.stat && card === this.big) await this.#ask(card, other).catch(() => {});
    }, 900);
  }

  #draw(card) {
    const { groups, baselines } = card.answer;
    const off = list("off");
    const lines = [];
    for (const group of groups) {
      if (off.includes(group.id)) continue;
      const own = { id: group.id, label: group.label, colour: colour(group.place), dash: dash(group.place), x: group.x, y: group.y };
      const each = !card.answer.suite && state.band === "seeds" || (state.band === "interval" && group.n > 1 && group.few);
      if (group.dots && state.band !== "none") lines.push({ ...own, id: `${group.id}.`, dots: true, x: group.dots.x, y: group.dots.y });
      if (each && group.n > 1) for (const seed of group.seeds) lines.push({ ...own, id: seed.id, label: seed.name, y: seed.y, width: card.big ? 1.2 : 1, faint: true });
      const banded = state.band === "interval" && !group.few;
      lines.push({ ...own, width: card.big ? 2.6 : 2, live: group.live, low: banded ? group.low : undefined, high: banded ? group.high : undefined });
    }
    const levels = [];
    if (state.baselines === "on") {
      const end = Math.max(0, ...groups.map((group) => group.x.at(-1) ?? 0));
      baselines.forEach((one, place) => {
        if (one.level !== null) levels.push({ label: publishedName(one.name), y: one.level, colour: publishedColour(place) });
        else lines.push({ id: `published ${one.name}`, label: publishedName(one.name), colour: publishedColour(place), width: 1.6, dash: [7, 4], quiet: true,
          ...upTo(one, end, state.band === "interval") });
      });
    }
    const goal = goalOf(groups);
    if (state.reach !== "" && card.big) levels.push({ label: "to reach", y: goal, colour: css("--muted") });
    const options = card.chart.options;
    options.xText = state.axis === "hours" ? hours : short;
    options.xUnit = state.axis === "hours" ? "" : state.axis;
    options.xSteps = state.axis === "hours" ? HOUR_STEPS : undefined;
    options.xLabel = X_NAMES[state.axis];
    card.chart.draw({ lines, levels, logX: state.log === "on", label: describe(card, lines) });
    if (card.big) { this.#legend(card); this.#reach(card); card.suite?.draw(card.answer); } else this.#mini(card);
    if (card.big) {
      this.#controls();
      dispatchEvent(new Event("nexus-drawn"));
    }
  }

  #reach(card) {
    const { groups, baselines } = card.answer;
    const goal = goalOf(groups), off = list("off");
    card.reach.hidden = !Number.isFinite(goal) || Boolean(card.suite);
    card.reach.querySelector("span").textContent = `${capital(state.axis === "hours" ? "time" : state.axis)} to reach`;
    card.goal.placeholder = goal.toPrecision(3);
    const lines = groups.filter((one) => !off.includes(one.id)).map((one) => ({ label: one.label, colour: colour(one.place), x: one.x, y: one.y }));
    if (state.baselines === "on") baselines.forEach((one, place) => { if (one.level === null) lines.push({ label: publishedName(one.name), colour: publishedColour(place), x: one.x, y: one.y }); });
    const found = lines.map((line) => ({ ...line, at: line.x[line.y.findIndex((y) => y !== null && y >= goal)] }));
    found.sort((one, other) => (one.at ?? Infinity) - (other.at ?? Infinity));
    const most = Math.max(...found.map((one) => one.at ?? 0)) || 1;
    fill(card.goals, found.map((one) => h("li", { title: one.label }, h("span", {}, one.label), h("b", {}, one.at === undefined ? "not yet" : card.chart.options.xText(one.at)),
      h("i", { style: { background: one.colour, width: one.at === undefined ? "0" : `${Math.max(2, 100 * one.at / most)}%` } }))));
  }

  #mini(card) {
    const { groups } = card.answer;
    const best = groups.reduce((most, group) => (most && most.y.at(-1) >= group.y.at(-1) ? most : group), null);
    card.best.textContent = best ? score(best.y.at(-1)) : "";
    card.legend.replaceChildren(...groups.slice(0, 4).map((group) => h("span", {}, h("i", { style: { background: colour(group.place) } }), `${group.label} (${group.n})`)));
    card.sub.textContent = groups.some((group) => group.live) ? "live" : "";
    card.root.classList.toggle("is-live", groups.some((group) => group.live));
  }

  #legend(card) {
    const { groups, baselines, suite } = card.answer;
    const off = list("off");
    const runs = groups.reduce((sum, group) => sum + group.n, 0);
    fill(card.sub,
      `${suite ? "Normalised score" : capital(Y_NAMES[state.value] ?? state.value)} of ${state.kind === "eval" ? "evaluations" : "training episodes"}${suite ? ` on ${suite.tasks.length} tasks` : ""} against ${card.answer.offline ? "replayed frames" : X_NAMES[state.axis]}`,
      h("span", { class: "chip" }, counted(runs, "run")), groups.some((group) => group.live) ? h("span", { class: "chip live" }, "live") : "");
    card.legend.replaceChildren(
      ...groups.map((group) => {
        const last = group.y.at(-1), shown = !off.includes(group.id);
        return h("li", {}, h("button", { type: "button", class: "entry", "aria-pressed": String(shown), title: `${shown ? "Hide" : "Show"} ${group.label}`,
          onclick: () => change({ off: switched("off", group.id) }) },
        h("i", { class: group.live ? "swatch live" : "swatch", style: { "--colour": colour(group.place) } }),
        h("span", { class: "name" }, group.label, group.detail ? h("small", { title: JSON.stringify(group.fields) }, group.detail) : null),
        h("span", { class: "value" }, score(last),
          h("small", {}, group.few ? counted(group.n, suite ? "run" : "seed") : `${score(group.low.at(-1))} to ${score(group.high.at(-1))}`)),
        ));
      }),
      ...(state.baselines === "on" ? baselines.map((one, place) => h("li", {}, h("div", { class: "entry published" },
        h("i", { class: "swatch dashed", style: { "--colour": publishedColour(place) } }),
        h("span", { class: "name" }, publishedName(one.name), h("small", {}, counted(one.n, "seed"))),
        h("span", { class: "value" }, score(one.level ?? at(one, Math.max(0, ...groups.map((group) => group.x.at(-1) ?? 0)))))))) : []));
    const few = groups.filter((group) => group.few);
    const lone = few.filter((group) => group.n === 1).length;
    fill(card.note,
      `Each point is the mean of a seed's episodes over ${spanText(groups)}; the line is the ${STATISTICS[state.stat]} over ${suite ? "tasks and " : ""}seeds, the band its 95 % bootstrap interval. `,
      few.length && !suite ? h("strong", {}, few.length === groups.length
        ? `${groups.length === 1 ? `n = ${groups[0].n}` : "Fewer than 3 seeds each"}: too few for an interval${lone === few.length ? "; dots are episodes" : "; each seed is drawn"}.`
        : `${few.map((group) => `${group.label} has n = ${group.n}`).join(", ")}: too few for an interval.`) : "");
  }

  #caption(card) {
    return { title: taskTitle(card.task), name: `${card.task}-${state.axis}`, sub: card.sub.firstChild.textContent,
      entries: card.chart.lines.filter((line) => !line.faint && !line.dots).map((line) => ({ label: line.label, colour: line.colour, dash: line.dash })) };
  }
}

function goalOf(groups) {
  if (state.reach !== "") return Number(state.reach);
  const values = groups.flatMap((group) => group.y).filter((y) => y !== null);
  const low = Math.min(...values), high = Math.max(...values);
  return Number((low + 0.9 * (high - low)).toPrecision(2));
}

function spanText(groups) {
  const spans = [...new Set(groups.map((group) => group.width))];
  const text = (value) => (state.axis === "hours" ? duration(value * 3600) : `${short(value)} ${state.axis}`);
  return spans.length === 1 ? text(spans[0]) : `${text(Math.min(...spans))} to ${text(Math.max(...spans))}`;
}

function capital(text) { return text.charAt(0).toUpperCase() + text.slice(1); }

export function hours(value) {
  if (value === 0) return "0";
  return value < 1 ? `${Number((value * 60).toPrecision(2))} min` : `${Number(value.toPrecision(3))} h`;
}

function upTo(one, end, banded) {
  let count = one.x.length;
  if (end > 0) while (count > 1 && one.x[count - 1] > end * 1.001) count -= 1;
  const cut = (values) => values?.slice(0, count);
  return { x: cut(one.x), y: cut(one.y), low: banded && !one.few ? cut(one.low) : undefined, high: banded && !one.few ? cut(one.high) : undefined };
}

function at(one, end) {
  let found = one.y[0];
  one.x.forEach((x, place) => { if (x <= end * 1.001) found = one.y[place]; });
  return found;
}

function describe(card, lines) {
  const parts = lines.filter((line) => !line.faint && !line.dots && line.y.length).map((line) => `${line.label} ends at ${score(line.y.at(-1))}`);
  return `${taskTitle(card.task)}, ${Y_NAMES[state.value] ?? state.value} against ${X_NAMES[state.axis]}. ${parts.join("; ")}. Arrow keys read values, plus and minus zoom.`;
}

async function copyLink(button) {
  try { await navigator.clipboard.writeText(location.href); button.textContent = "Copied"; } catch { button.textContent = "See the address bar"; }
  setTimeout(() => { button.textContent = "Link"; }, 2000);
}
