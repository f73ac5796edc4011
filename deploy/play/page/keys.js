// Which key takes which action: digits, and keys that the player has chosen for this world.

import { recall, remember } from "./memory.js";

const NAMES = { arrowup: "↑", arrowdown: "↓", arrowleft: "←", arrowright: "→", " ": "space" };
const TAKEN = new Set(["r", "f", "v", "t", "?", "backspace", "tab", "escape", "enter", "shift", "control", "alt", "meta"]);

export const named = (key) => NAMES[key] ?? key.toUpperCase();

export class Keys {
  constructor(world, actions) {
    this.place = `nexus.play.keys.${world}`;
    this.actions = actions;
    this.chosen = new Map(Object.entries(recall(this.place, {})).filter(([, action]) => action < actions));
  }

  /** The action of a key event, or null. */
  action(event) {
    const key = event.key.toLowerCase();
    if (this.chosen.has(key)) return this.chosen.get(key);
    if (!/^[0-9]$/.test(key)) return null;
    const action = (Number(key) + 9) % 10; // 1 is the first, 0 the tenth
    return action < this.actions ? action : null;
  }

  /** The keys of an action. */
  of(action) {
    const digit = action < 10 ? [String((action + 1) % 10)] : [];
    return [...digit.filter((key) => !this.chosen.has(key)), ...[...this.chosen].filter(([, one]) => one === action).map(([key]) => key)];
  }

  /** Give a key to an action, or take it away again; the reason if that cannot be. */
  choose(event, action) {
    const key = event.key.toLowerCase();
    if (TAKEN.has(key) || key.length > 1 && !(key in NAMES)) return `${named(key)} has another use on this page.`;
    if (this.chosen.get(key) === action) this.chosen.delete(key);
    else this.chosen.set(key, action);
    remember(this.place, Object.fromEntries(this.chosen));
    return "";
  }
}
