// The world and, beside it or in its place, the true recording.

import { fill, h } from "./dom.js";
import { colour } from "./palette.js";
import { draw } from "./pictures.js";

const TRAIL = 90; // steps

export class Screen {
  constructor(place, trail) {
    this.place = place;
    this.trail = trail;
    this.taken = [];
    this.dream = h("canvas", { class: "world", role: "img", "aria-label": "Generated world" });
    this.truth = h("canvas", { class: "world", role: "img", "aria-label": "True recording" });
    this.near = h("span", {});
    this.apart = h("span", {});
    this.steps = h("span", { class: "badge steps" });
    this.rec = h("span", { class: "badge rec", hidden: true }, h("i", {}), h("span", {}, "REC"));
    this.veil = h("div", { class: "veil" }, h("p", {}, "Connecting"));
    place.replaceChildren(
      h("figure", { class: "truth" }, this.truth, h("figcaption", {}, h("b", {}, "Truth"), this.apart)),
      h("figure", { class: "dream" }, this.dream, h("figcaption", {}, h("b", {}, "Dream"), this.near)),
      this.steps, this.rec, this.veil);
    this.show("dream");
  }

  /** dream, truth or both. */
  show(view) { this.place.dataset.view = view; }

  /** A message over everything, with a button if there is something to do; none: nothing. */
  say(text, label, onclick) {
    this.veil.hidden = !text;
    if (text) fill(this.veil, h("p", {}, text), label && h("button", { type: "button", class: "primary", onclick }, label));
  }

  frame({ pictures: [dream, truth], step, left, psnr }) {
    draw(this.dream, dream);
    if (truth) draw(this.truth, truth);
    this.place.classList.toggle("over", !truth);
    this.steps.textContent = step ? `step ${step.toLocaleString("en")}` : "beginning";
    this.near.textContent = psnr === null ? "" : `${psnr.toFixed(1)} dB from the truth`;
    this.apart.textContent = !truth ? "the recording is over" : left ? `you took another way at step ${left}` : "";
  }

  /** A step with this action, null for the recording's. */
  took(action) {
    this.taken = [...this.taken, action].slice(-TRAIL);
    this.trace();
  }

  begin() {
    this.taken = [];
    this.trace();
  }

  trace() {
    this.trail.replaceChildren(...this.taken.map((action) =>
      h("i", { style: action === null ? {} : { "--colour": colour(action) } })));
  }
}
