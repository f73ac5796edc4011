// How fast the world runs, and how far it has drifted from what its tokenizer knows.

import { h } from "./dom.js";

const WINDOW = 3000; // milliseconds over which frames are counted
const RANGE = 9; // dB of the gauge
const LEVELS = [[2, "good", "as at the start"], [5, "warn", "drifting"], [Infinity, "bad", "far from what it was trained on"]];
const KEPT = 160; // steps of the curve
const WIDE = 300, TALL = 54;

export class Meters {
  constructor(place) {
    this.times = [];
    this.drifts = [];
    this.rate = h("b", { class: "big", id: "fps" }, "–");
    this.time = h("b", { class: "big", id: "step-time" }, "–");
    this.said = h("b", { class: "drift-word" });
    this.number = h("span", { class: "sub", id: "drift" });
    this.needle = h("i", { class: "needle" });
    this.curve = h("svg:path", { class: "curve" });
    place.replaceChildren(
      h("div", { class: "meter" }, h("h2", {}, "Frames a second"), this.rate),
      h("div", { class: "meter" }, h("h2", {}, "Time of a step"), this.time),
      h("div", { class: "meter drift", title: "How much worse the tokenizer redraws this frame than the one at the start: 0 dB while the world looks like what it was trained on" },
        h("h2", {}, "Drift"),
        h("p", { class: "drift-line" }, this.said, this.number),
        h("div", { class: "gauge", role: "img", "aria-label": "Drift from good to bad" }, this.needle),
        h("svg:svg", { class: "drift-curve", viewBox: `0 0 ${WIDE} ${TALL}`, preserveAspectRatio: "none", "aria-hidden": "true" },
          h("svg:path", { class: "zero", d: `M0 ${TALL - 4}H${WIDE}` }), this.curve)));
    setInterval(() => this.count(), 250);
  }

  begin({ drift }) {
    this.drifts = [];
    this.drifted(drift);
  }

  step({ drift, seconds }) {
    this.times.push(performance.now());
    this.time.replaceChildren(`${(1000 * seconds).toFixed(seconds < 0.01 ? 1 : 0)}`, h("small", {}, " ms"));
    this.drifted(drift);
  }

  drifted(drift) {
    this.drifts = [...this.drifts, drift].slice(-KEPT);
    const [, level, word] = LEVELS.find(([most]) => drift < most);
    const share = Math.min(Math.max(drift / RANGE, 0), 1);
    this.needle.style.setProperty("left", `${100 * share}%`);
    this.said.textContent = word;
    this.said.dataset.level = level;
    this.number.textContent = `${drift < 0 ? "−" : "+"}${Math.abs(drift).toFixed(1)} dB`;
    const top = (value) => TALL - 4 - (TALL - 8) * Math.min(Math.max(value / RANGE, 0), 1);
    const x = (place) => WIDE * place / Math.max(this.drifts.length - 1, 40);
    this.curve.setAttribute("d", this.drifts.map((value, place) => `${place ? "L" : "M"}${x(place).toFixed(1)} ${top(value).toFixed(1)}`).join(""));
  }

  count() {
    const now = performance.now();
    this.times = this.times.filter((time) => now - time < WINDOW);
    const [first] = this.times, last = this.times.at(-1);
    this.rate.textContent = this.times.length > 1 && now - last < 1000 ? (1000 * (this.times.length - 1) / (last - first)).toFixed(1) : "–";
  }
}
