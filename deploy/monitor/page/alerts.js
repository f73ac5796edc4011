// What somebody should look at now, what happened lately, and by which rules.

import { get } from "./api.js";
import { fill, h } from "./dom.js";
import { ago, taskTitle } from "./format.js";
import { change } from "./state.js";

const RULES = [
  ["non-finite", "A loss or a number of the optimizer is not finite.", "faults/ of the run has the batch. Lower the learning rate, or look for values beyond float16 in observations."],
  ["stall", "Nothing has been written to its logs for alerts.stall-seconds.", "Look at Fleet: which process gives no sign of life, and who waits for whom."],
  ["lag", "Acting policies are older than alerts.lag-seconds on average.", "Lower learner.publish-every, or give the learner more of the machine."],
  ["dead workers", "An actor is silent for alerts.dead-seconds, or given up.", "Its traceback is under Fleet; scaling starts it again."],
  ["score collapse", "The score has lost alerts.collapse of what it had gained.", "Compare the losses before and after; try a smaller learning rate or more replay."],
  ["world model", "A part of it is unhealthy by the run's health.* thresholds: compounding error, reward exploitation, forgetting.", "Health says what is wrong and which setting to try."],
  ["failed", "The run has died.", "The same command continues it."],
];

export class AlertsView {
  constructor(main, world) {
    this.world = world;
    this.body = h("div", { class: "alerts" });
    main.replaceChildren(this.body);
    this.refresh();
  }

  destroy() {}

  stateChanged() {}

  async refresh() {
    const { raised, events } = await get("alerts");
    fill(this.body,
      h("section", { class: "card block", "aria-live": "polite" }, h("h1", {}, raised.length ? "Somebody should look" : "All is well"),
        raised.length ? h("ul", { class: "raised" }, raised.map((one) => h("li", {}, h("button", { type: "button", onclick: () => change(one.kind.startsWith("world model: ") ? { view: "health", health: one.run } : { view: "fleet", run: one.run }, false) },
          h("b", {}, one.kind), h("span", {}, h("strong", {}, one.name), ` ${taskTitle(one.task)}`, h("em", {}, one.text)), h("small", {}, ago(one.since)))))) : h("p", { class: "sub" }, "No rule applies to any run that is active.")),
      h("div", { class: "halves" },
        h("section", { class: "card block" }, h("h2", {}, "Lately"), events.length ? h("ul", { class: "events" }, events.slice(0, 40).map((one) => h("li", {}, h("b", { class: one.event === "raised" ? "bad-text" : "good-text" }, one.event), h("span", {}, one.text), h("small", {}, ago(one.time))))) : h("p", { class: "sub" }, "Nothing since the monitor began.")),
        h("section", { class: "card block" }, h("h2", {}, "Rules"), h("dl", { class: "rules" }, RULES.map(([name, when, then]) => [h("dt", {}, name), h("dd", {}, when, " ", h("span", { class: "sub" }, then))])),
          h("p", { class: "sub" }, "Thresholds are part of a run's configuration (nexus train --alerts.stall-seconds 600); --webhook-file sends alerts elsewhere."))));
  }
}
