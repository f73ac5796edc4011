// What a world begins with: a recording, and the frame up to which it is known.

import { fill, h } from "./dom.js";
import { draw } from "./pictures.js";

const PAUSE = 120; // milliseconds until a slider that moves is obeyed

export class Starts {
  constructor(strip, slider, { recordings, pictures }, begin) {
    this.recordings = recordings;
    this.slider = slider;
    this.begin = begin;
    this.thumbs = pictures.map((picture, place) => {
      const canvas = h("canvas", { "aria-hidden": "true" });
      draw(canvas, picture);
      return h("button", { type: "button", class: "thumb", role: "radio", "aria-label": `Recording ${place + 1}`, onclick: () => this.choose(place) }, canvas);
    });
    fill(strip, this.thumbs);
    this.choose(0, false);
  }

  choose(place, begins = true) {
    const { length, begins: frame } = this.recordings[place];
    this.chosen = { recording: place, frame };
    this.thumbs.forEach((thumb, other) => thumb.setAttribute("aria-checked", String(other === place)));
    const said = h("output", {}, `${frame + 1} of ${length}`);
    let waiting = null;
    fill(this.slider, length > 1 && h("label", { class: "slider begin-slider" }, h("span", { class: "sub" }, "at frame"),
      h("input", { type: "range", min: "0", max: String(length - 1), value: String(frame), oninput: (event) => {
        this.chosen = { ...this.chosen, frame: Number(event.target.value) };
        said.textContent = `${this.chosen.frame + 1} of ${length}`;
        clearTimeout(waiting);
        waiting = setTimeout(() => this.begin(this.chosen), PAUSE);
      } }), said));
    if (begins) this.begin(this.chosen);
  }

  /** Whether the chosen recording shows what truly came next. */
  get continues() { return this.recordings[this.chosen.recording].length > 1; }
}
