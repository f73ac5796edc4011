// The open-loop videos of several runs, all at the same step: one slider, the arrow keys, or play.

import { fill, h } from "./dom.js";
import { whole } from "./format.js";
import { css } from "./palette.js";

const CONTEXT = "#35b88a", OPEN = "#f2913d"; // as in the videos

export class Videos {
  constructor(host) {
    this.step = 0;
    this.steps = 1;
    this.playing = 0;
    this.players = new Map();
    this.play = h("button", { type: "button", class: "icon play", "aria-label": "Play (space)", onclick: () => this.toggle() }, "▶");
    this.slider = h("input", { type: "range", min: "0", max: "0", step: "1", value: "0", "aria-label": "Step of all videos", oninput: () => { this.#stop(); this.#go(Number(this.slider.value)); } });
    this.track = h("div", { class: "phases", "aria-hidden": "true" });
    this.where = h("output", { class: "where" });
    this.bar = h("div", { class: "frame-bar" }, this.play, h("div", { class: "frame-slider" }, this.track, this.slider), this.where);
    this.rows = h("div", { class: "films" });
    host.append(this.bar, this.rows);
  }

  /** films: {id, name, colour, url, kind, updates, fps, held, context, note}. */
  show(films) {
    const kept = new Set(films.map((one) => one.url));
    for (const [url, player] of this.players) if (!kept.has(url)) { this.players.delete(url); release(player); }
    fill(this.rows, films.map((film) => {
      const before = this.players.get(film.url);
      const player = before ?? this.#player(film);
      Object.assign(player.film, film);
      player.root.querySelector(".swatch").style.setProperty("--colour", film.colour);
      this.players.set(film.url, player);
      return player.root;
    }));
    this.bar.hidden = !films.some((one) => one.kind === "video");
    if (this.bar.hidden) this.#stop();
    this.#measure();
  }

  destroy() {
    this.#stop();
    for (const player of this.players.values()) release(player);
  }

  toggle() {
    if (this.playing) return this.#stop();
    const fps = [...this.players.values()].find((one) => one.video)?.film.fps ?? 10;
    this.play.textContent = "❚❚";
    this.play.setAttribute("aria-label", "Pause (space)");
    this.playing = setInterval(() => this.#go((this.step + 1) % this.steps), 1000 / fps);
  }

  /** True if the key moved the videos. */
  key(event) {
    if (this.bar.hidden) return false;
    const to = { ArrowLeft: this.step - 1, ArrowRight: this.step + 1, Home: 0, End: this.steps - 1 }[event.key];
    if (event.key === " ") this.toggle();
    else if (to !== undefined) { this.#stop(); this.#go(Math.min(this.steps - 1, Math.max(0, to))); }
    else return false;
    return true;
  }

  #stop() {
    clearInterval(this.playing);
    this.playing = 0;
    this.play.textContent = "▶";
    this.play.setAttribute("aria-label", "Play (space)");
  }

  #player(film) {
    const player = { film: { ...film }, steps: 0 };
    const caption = h("figcaption", {}, h("i", { class: "swatch" }), h("b", {}, film.name), h("small", {}, `update ${whole(film.updates)}`), h("span", { class: "phase" }, film.note ?? ""));
    player.phase = caption.querySelector(".phase");
    if (film.kind !== "video") {
      const picture = h("img", { src: film.url, alt: `Open-loop prediction of ${film.name} after ${film.updates} updates`, loading: "lazy" });
      player.root = h("figure", { class: "film picture" }, caption, h("a", { href: film.url, target: "_blank", title: "Full size" }, picture));
      return player;
    }
    const video = h("video", { muted: true, playsInline: true, preload: "auto", src: film.url, tabindex: "-1", "aria-label": `Open-loop video of ${film.name}: truth, prediction and error` });
    video.addEventListener("loadedmetadata", () => {
      player.steps = Math.max(1, Math.round(video.duration * film.fps) - film.held);
      this.#measure();
      this.#seek(player);
    });
    video.addEventListener("seeked", () => { player.seeking = false; if (player.wanted !== player.shown) this.#seek(player); });
    video.addEventListener("error", () => { player.phase.textContent = "The video is gone; a newer one follows."; });
    player.video = video;
    player.root = h("figure", { class: "film" }, caption, video);
    return player;
  }

  #measure() {
    const moving = [...this.players.values()].filter((one) => one.steps);
    this.steps = Math.max(1, ...moving.map((one) => one.steps));
    this.slider.max = String(this.steps - 1);
    const known = [...new Set(moving.filter((one) => one.film.context).map((one) => `${one.film.context}/${one.steps}`))];
    fill(this.track, known.map((one) => {
      const [context, steps] = one.split("/").map(Number);
      return h("i", { style: { width: `${100 * steps / this.steps}%`, background: `linear-gradient(90deg, ${CONTEXT} ${100 * context / steps}%, ${OPEN} 0)` } });
    }), known.length ? null : h("i", { style: { width: "100%", background: css("--line") } }));
    this.#go(Math.min(this.step, this.steps - 1));
  }

  #go(step) {
    this.step = step;
    this.slider.value = String(step);
    const contexts = new Set();
    for (const player of this.players.values()) {
      if (!player.video) continue;
      const { context } = player.film;
      const ended = player.steps && step >= player.steps;
      const phase = !context ? "" : step < context ? "context" : `open loop +${step + 1 - context}`;
      contexts.add(phase);
      player.phase.textContent = ended ? `ended at step ${player.steps}` : phase;
      player.phase.style.color = !phase || ended ? "" : step < context ? CONTEXT : OPEN;
      this.#seek(player);
    }
    const said = contexts.size === 1 ? [...contexts][0] : "";
    this.where.textContent = `step ${step + 1} of ${this.steps}${said ? ` · ${said}` : ""}`;
    this.slider.setAttribute("aria-valuetext", this.where.textContent);
  }

  #seek(player) {
    if (!player.steps) return;
    player.wanted = Math.min(this.step, player.steps - 1);
    if (player.seeking || player.wanted === player.shown) return; // one at a time: the newest wish follows
    player.seeking = true;
    player.shown = player.wanted;
    player.video.currentTime = (player.wanted + 0.5) / player.film.fps; // the middle of a frame is that frame
    player.root.dataset.step = player.wanted;
  }
}

function release({ video }) {
  if (!video) return;
  video.removeAttribute("src");
  video.load(); // gives up what it has read
}
