// What stands above everything: which circuit, how good, and what turning nodes off does to it.

import type { CircuitInfo, DaemonStatus, EditResult } from "../protocol.generated";
import { count, percent, signed } from "../shared/scale";
import { button, h, spoken } from "./dom";

/** What turning nodes off did; null: on its way, a string: why it cannot be said. */
export type Effect = EditResult | string | null;

export interface HeadingActions {
  reset(): void;
  save(): void;
  measure: (() => void) | null;
}

export function heading(
  info: CircuitInfo,
  nDropped: number,
  effect: Effect,
  actions: HeadingActions,
): HTMLElement {
  const facts = [
    `${count(info.k, "node")}, ${count(info.nEdges, "edge")}`,
    `loss ${info.loss.toFixed(3)}`,
    ...(info.heldOutLoss === null ? [] : [`held out ${info.heldOutLoss.toFixed(3)}`]),
    `model ${info.modelLoss.toFixed(3)}`,
    `accuracy ${percent(info.accuracy)}`,
  ];
  const verdict =
    info.verdict !== null && h("span", { class: `badge ${info.verdict.replace(" ", "-")}` }, info.verdict);
  return h(
    "header",
    {},
    h("h1", {}, info.task, h("span", { class: "faint" }, ` in ${info.model}`), verdict),
    h("p", { class: "facts-line" }, facts.join(" · ")),
    actions.measure &&
      h(
        "p",
        { class: "row" },
        "Its edges were never measured.",
        button("Measure", actions.measure, { name: "measure" }),
      ),
    nDropped > 0 && effectLine(info, nDropped, effect, actions),
  );
}

function effectLine(
  info: CircuitInfo,
  nDropped: number,
  effect: Effect,
  actions: HeadingActions,
): HTMLElement {
  const words =
    effect === null
      ? "measuring …"
      : typeof effect === "string"
        ? effect
        : `loss ${(effect.loss - effect.delta).toFixed(3)} → ${effect.loss.toFixed(3)} (${signed(effect.delta)}), accuracy ${percent(info.accuracy)} → ${percent(effect.accuracy)}`;
  return h(
    "p",
    { class: "effect row", role: "status", "data-name": "effect", "aria-busy": String(effect === null) },
    h("strong", {}, `${count(nDropped, "node")} off`),
    words,
    button("All on", actions.reset, { name: "reset" }),
    button("Save as a circuit", actions.save),
  );
}

/** What is shown in place of a circuit: why there is none, and the next step. */
export function absence(
  status: DaemonStatus | null,
  failure: string | null,
  run: (command: string) => void,
): HTMLElement {
  const sentence = failure ?? (status === null ? "Asking the daemon …" : status.sentence);
  const buttons: HTMLElement[] = [];
  if (status !== null && status.state !== "connected") {
    if (status.canStart)
      buttons.push(button("Start a daemon", () => run("circuits.startDaemon"), { name: "start" }));
    buttons.push(button("Choose an endpoint", () => run("circuits.chooseEndpoint")));
    buttons.push(button("Show the log", () => run("circuits.showLog")));
  }
  return h(
    "div",
    { class: "absence" },
    h("p", { role: "status" }, ...spoken(sentence)),
    status?.hint ? h("p", { class: "faint" }, ...spoken(status.hint)) : null,
    h("div", { class: "row" }, ...buttons),
  );
}
