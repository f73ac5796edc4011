// The actions: buttons to hold, each with a loop of what it does and with its keys.

import { h, toast } from "./dom.js";
import { named } from "./keys.js";
import { colour } from "./palette.js";
import { draw } from "./pictures.js";

const TICK = 140; // milliseconds of a preview's frame
const REST = 4; // ticks for which a loop holds its last frame
const still = matchMedia("(prefers-reduced-motion: reduce)");

export class Pad {
  constructor(place, keys, { press, release }) {
    this.keys = keys;
    this.binding = null;
    this.first = null;
    this.loops = Array.from({ length: keys.actions }, () => []);
    this.cells = this.loops.map((_, action) => this.cell(action, press, release));
    place.replaceChildren(...this.cells.map((cell) => cell.whole));
    this.recolour();
    this.tick = 0;
    this.timer = setInterval(() => this.play(), TICK);
  }

  cell(action, press, release) {
    const canvas = h("canvas", { class: "loop", "aria-hidden": "true" });
    const chips = h("span", { class: "chips" });
    const button = h("button", { type: "button", class: "action", "aria-label": `Action ${action + 1}`,
      onpointerdown: (event) => {
        if (event.button > 0) return;
        button.setPointerCapture(event.pointerId);
        press(action);
      },
      onpointerup: () => release(action), onlostpointercapture: () => release(action),
      oncontextmenu: (event) => event.preventDefault(),
      onclick: (event) => { if (event.detail === 0) { press(action); release(action); } }, // without a pointer
    }, canvas, h("span", { class: "action-foot" }, h("b", {}, String(action + 1)), chips));
    const bind = h("button", { type: "button", class: "bind", title: "Choose a key for this action", "aria-label": `Choose a key for action ${action + 1}`,
      onclick: () => this.bind(this.binding === action ? null : action) }, "+ key");
    const cell = { whole: h("div", { class: "action-cell" }, button, bind), canvas, chips, bind };
    this.label(cell, action);
    return cell;
  }

  /** Another pad takes its place. */
  end() { clearInterval(this.timer); }

  label(cell, action) {
    cell.chips.replaceChildren(...this.keys.of(action).map((key) => h("kbd", {}, named(key))));
  }

  recolour() {
    this.cells.forEach((cell, action) => cell.whole.style.setProperty("--colour", colour(action)));
  }

  /** The next key that is pressed will be this action's; null: no longer. */
  bind(action) {
    this.binding = action;
    this.cells.forEach((cell, place) => {
      cell.whole.classList.toggle("binding", place === action);
      cell.bind.textContent = place === action ? "press a key" : "+ key";
    });
  }

  /** Whether a key event was the choice of a key. */
  takes(event) {
    if (this.binding === null) return false;
    if (event.key !== "Escape") {
      const problem = this.keys.choose(event, this.binding);
      if (problem) toast(problem, true);
    }
    this.bind(null);
    this.cells.forEach((cell, action) => this.label(cell, action));
    return true;
  }

  /** Show which action is being taken; null: none. */
  light(action) {
    this.cells.forEach((cell, place) => cell.whole.classList.toggle("lit", place === action));
  }

  /** Other previews will come, of worlds that begin with this picture. */
  clear(first) {
    this.first = first;
    this.tick = 0;
    this.loops.forEach((loop) => loop.splice(0));
    this.cells.forEach((cell) => draw(cell.canvas, first));
  }

  /** The next frame of every preview. */
  add(pictures) {
    pictures.forEach((picture, action) => this.loops[action].push(picture));
  }

  play() {
    if (!this.first || document.hidden) return;
    const length = this.loops[0].length;
    this.tick = still.matches ? length : (this.tick + 1) % (length + 1 + REST);
    const at = Math.min(this.tick, length);
    this.cells.forEach((cell, action) => draw(cell.canvas, at ? this.loops[action][at - 1] : this.first));
  }
}
