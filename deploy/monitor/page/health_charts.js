// The numbers behind the verdicts, drawn: error by horizon, returns, rewards, and how they change over updates.

import { Chart } from "./chart.js";
import { fill, h, refill, segmented } from "./dom.js";
import { counted, score, short } from "./format.js";
import { css } from "./palette.js";
import { square } from "./square.js";
import { change, state } from "./state.js";

const TRENDS = [
  ["optimism", "Optimism over updates", "Imagined minus real return. At zero the model promises what it keeps; a gap that stays means that the policy exploits it, or outruns what it has seen.", (point) => minus(point["returns/imagined_mean"], point["returns/real_mean"]), 0],
  ["forgetting", "Forgetting over updates", "Loss on the oldest tenth of replay over that on the newest. Old data may be harder at all times: what counts is a rise.", (point) => point["forgetting/ratio"], 1],
  ["actions", "Use of actions over updates", "Error of predictions with the actions of other sequences over that with the true ones. At one the actions make no difference.", (point) => point["actions/ratio"], 1],
];

export class HealthCharts {
  constructor() {
    this.horizon = this.#card("Error against horizon", "Mean error so many steps after the context, where only actions are given. Dashed: the last step seen, repeated.", { xLabel: "steps after the context", xUnit: "steps ahead", xSteps: [1, 2, 5, 10, 20, 50, 100, 200], yText: short });
    this.keys = h("div", { class: "keys-of" });
    this.horizon.root.querySelector("header").append(this.keys);
    this.returns = this.#panel("Imagined against real return", "Each dot is one start: the return that the model imagined against the one that followed. Above the line the model is optimistic.");
    this.rewards = this.#panel("Calibration of the reward head", "Predicted rewards in bins against what was received there; larger dots hold more steps. On the line the head is right.");
    this.trends = TRENDS.map(([name, title, text, value, level]) => ({ value, level, name, ...this.#card(title, text, { xLabel: "gradient updates", xUnit: "updates", yText: short, height: 210 }) }));
    this.root = h("div", { class: "health-charts" }, this.horizon.root, this.returns.root, this.rewards.root, this.trends.map((one) => one.root));
  }

  destroy() { for (const { chart } of [this.horizon, ...this.trends]) chart.destroy(); }

  redraw() { for (const { chart } of [this.horizon, ...this.trends]) chart.redraw(); }

  /** found: {run, colour, newest, trend}. */
  show(found) {
    this.#horizons(found);
    this.#squares(this.returns, found, (one) => returnsOf(one), (one) => {
      const { imagined_mean: imagined, real_mean: real, horizon, episodes } = one.newest.returns;
      return [h("b", {}, `imagined ${score(imagined)}, real ${score(real)}`), h("small", {}, [horizon ? `${short(horizon)} steps ahead` : "", episodes ? counted(episodes, "episode") : ""].filter(Boolean).join(", "))];
    }, { xLabel: "real return", yLabel: "imagined return", above: "optimistic", below: "pessimistic" }, "returns");
    this.#squares(this.rewards, found, (one) => rewardsOf(one), (one) => [h("b", {}, `mean error ${short(one.newest.reward.error)}`), h("small", {}, counted(one.newest.reward.bins.length, "bin"))],
      { xLabel: "received reward", yLabel: "predicted reward", above: "too high", below: "too low" }, "reward");
    for (const trend of this.trends) {
      const lines = found.map((one) => {
        const points = [...(one.trend?.values() ?? [])].sort((a, b) => a.updates - b.updates).map((point) => [point.updates, trend.value(point)]).filter(([, y]) => y !== null && y !== undefined);
        return { id: one.run.id, label: one.run.name, colour: one.colour, x: points.map(([x]) => x), y: points.map(([, y]) => y), live: one.run.active };
      });
      const some = lines.some((line) => line.x.length);
      trend.body.hidden = !some;
      trend.note.textContent = some ? "" : why(found, trend.name === "optimism" ? "returns" : trend.name);
      trend.chart.draw({ lines, levels: some ? [{ label: "", y: trend.level, colour: css("--muted") }] : [], label: `${trend.name} over updates` });
    }
  }

  #card(title, text, options) {
    const body = h("div", { class: "chart-area" }), note = h("p", { class: "sub" });
    const root = h("section", { class: "card block", "aria-label": title }, h("header", {}, h("h2", {}, title)), h("p", { class: "sub" }, text), body, note);
    return { root, body, note, chart: new Chart(body, { height: 280, label: title, ...options }) };
  }

  #panel(title, text) {
    const body = h("div", { class: "squares" });
    return { body, root: h("section", { class: "card block", "aria-label": title }, h("header", {}, h("h2", {}, title)), h("p", { class: "sub" }, text), body) };
  }

  #horizons(found) {
    const keys = [...new Set(found.flatMap((one) => Object.keys(one.newest?.horizon?.keys ?? {})))];
    const key = keys.includes(state.hkey) ? state.hkey : keys[0];
    refill(this.keys, keys.length > 1 ? keys.length < 5 ? segmented("Of", keys.map((name) => [name, name]), key, (name) => change({ hkey: name }))
      : h("label", { class: "pick" }, h("span", { class: "legend" }, "Of"), h("select", { onchange: (event) => change({ hkey: event.target.value }) }, keys.map((name) => h("option", { value: name, selected: name === key }, name)))) : null);
    const lines = [];
    let unit = "";
    for (const one of found) {
      const errors = one.newest?.horizon?.keys[key];
      if (!errors) continue;
      unit ||= errors.unit;
      const x = errors.model.map((_, place) => place + 1);
      const own = { colour: one.colour, x, live: false };
      lines.push({ ...own, id: one.run.id, label: one.run.name, y: errors.model, width: 2.4 });
      if (errors.still.length === x.length) lines.push({ ...own, id: `${one.run.id} still`, label: `${one.run.name}, last step repeated`, y: errors.still, width: 1.4, dash: [5, 4], quiet: true });
    }
    this.horizon.body.hidden = !lines.length;
    this.horizon.note.textContent = lines.length ? (unit ? `${key}: ${unit}` : key) : why(found, "horizon");
    this.horizon.chart.draw({ lines, label: `Error of ${key} against horizon. ${lines.map((line) => `${line.label}: ${short(line.y.at(-1))} at step ${line.x.at(-1)}`).join("; ")}` });
  }

  #squares(panel, found, pointsOf, said, options, part) {
    fill(panel.body, found.map((one) => {
      const points = one.newest ? pointsOf(one) : [];
      const caption = h("figcaption", {}, found.length > 1 ? h("span", {}, h("i", { class: "swatch", style: { "--colour": one.colour } }), one.run.name) : null, points.length ? said(one) : h("span", { class: "sub" }, why([one], part)));
      return h("figure", { class: points.length ? "" : "none" }, points.length ? square(points, one.colour, { ...options, label: `${options.yLabel} against ${options.xLabel} of ${one.run.name}, ${points.length} points` }) : null, caption);
    }));
  }
}

function returnsOf({ newest }) {
  const { imagined = [], real = [] } = newest.returns ?? {};
  return imagined.map((y, place) => ({ x: real[place], y, title: `imagined ${score(y)}, real ${score(real[place])}` }));
}

function rewardsOf({ newest }) {
  const bins = newest.reward?.bins ?? [];
  const most = Math.max(1, ...bins.map((one) => one.count));
  return bins.map(({ predicted, actual, count }) => ({ x: actual, y: predicted, r: 3 + 9 * Math.sqrt(count / most), title: `predicted ${short(predicted)}, received ${short(actual)}, ${counted(count, "step")}` }));
}

function why(found, part) {
  const said = found.map((one) => one.newest?.missing?.[part]).find(Boolean);
  return said ?? "Not measured yet.";
}

function minus(one, other) { return typeof one === "number" && typeof other === "number" ? one - other : null; }
