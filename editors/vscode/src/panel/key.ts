// The key of the picture: what colours and lines mean in it.

import { h, s } from "./dom";
import type { Scene } from "./scene";
import { legend } from "./tokens";

/** The key's parts, of which only those that the scene has. */
export function keyOf(scene: Scene): HTMLElement[] {
  const { weight, delta } = scene.graph.edges;
  const parts: HTMLElement[] = [];
  if (scene.nodeLimit > 0) parts.push(legend(scene.nodeLimit, "nats when ablated"));
  if (weight.some((w) => w > 0))
    parts.push(sample("solid", delta === null ? "weight > 0" : "weight > 0, wide: many nats when cut"));
  if (weight.some((w) => w < 0)) parts.push(sample("dashed", "weight < 0"));
  if (scene.graph.carried.source.length > 0) parts.push(sample("dotted", "carried by the stream, no edge"));
  return parts;
}

function sample(line: string, words: string): HTMLElement {
  const mark = s(
    "svg",
    { viewBox: "0 0 26 6", width: 26, height: 6, "aria-hidden": "true" },
    s("path", { class: `line ${line}`, d: "M0 3h26" }),
  );
  return h("span", {}, mark, words);
}
