// How a circuit was found: loss and size during pruning, and every setting.

import type { CircuitGraph } from "../../protocol.generated";
import { h } from "../dom";
import { plot } from "../plot";

export function pruningTab({ info, curve, settings }: CircuitGraph): HTMLElement {
  const target = info.targetLoss === null ? [] : [{ y: info.targetLoss, name: "target" }];
  const how = [
    info.origin,
    `${info.ablation}-ablated`,
    `seed ${info.seed}`,
    new Date(info.createdAtS * 1000).toLocaleString(),
  ];
  return h(
    "div",
    {},
    h("p", { class: "faint" }, how.join(" · ")),
    plot({
      title: "Loss during pruning",
      xName: "step",
      yName: "nats per side",
      curve: curve.map((point) => ({ x: point.step, y: point.loss })),
      levels: target,
    }),
    plot({
      title: "Nodes kept during pruning",
      xName: "step",
      yName: "nodes",
      curve: curve.map((point) => ({ x: point.step, y: point.k })),
    }),
    settings === "" ? null : h("details", {}, h("summary", {}, "Settings"), h("pre", {}, pretty(settings))),
  );
}

function pretty(json: string): string {
  try {
    return JSON.stringify(JSON.parse(json), null, 2);
  } catch {
    return json;
  }
}
