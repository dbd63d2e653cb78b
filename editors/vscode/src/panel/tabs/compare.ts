// What differs between two circuits; the picture shows both over each other meanwhile.

import type { CircuitInfo, Comparison, Node } from "../../protocol.generated";
import { nameOf } from "../../shared/nodes";
import { count, percent, signed } from "../../shared/scale";
import { button, h } from "../dom";

export interface CompareActions {
  choose(circuit: string | null): void;
  select(name: string): void;
}

const LISTED_MAX = 40;

/** `others` are circuits of the same model; `found` null: still on its way, a string: why not. */
export function compareTab(
  shown: CircuitInfo,
  others: readonly CircuitInfo[],
  other: string | null,
  found: Comparison | string | null,
  actions: CompareActions,
): HTMLElement {
  const select = h(
    "select",
    { "aria-label": "Circuit to compare with", "data-name": "compare" },
    h("option", { value: "" }, "compare with …"),
    ...others.map((x) =>
      h(
        "option",
        { value: x.id, selected: x.id === other },
        `${x.task} · k ${x.k} · loss ${x.loss.toFixed(3)} · ${x.sweep}`,
      ),
    ),
  );
  select.addEventListener("change", () => actions.choose(select.value || null));
  const stop = other !== null && button("Stop comparing", () => actions.choose(null));
  return h("div", {}, h("div", { class: "row" }, select, stop), ...result(shown, other, found, actions));
}

function result(
  shown: CircuitInfo,
  other: string | null,
  found: Comparison | string | null,
  actions: CompareActions,
): HTMLElement[] {
  if (other === null)
    return [
      h(
        "p",
        { class: "faint" },
        "The picture will show both: what only one of them has is outlined in its colour.",
      ),
    ];
  if (found === null) return [h("p", { class: "faint", "aria-busy": "true" }, "Comparing …")];
  if (typeof found === "string") return [h("p", { class: "faint" }, found)];
  const { before, after } = found;
  const facts = [
    `${count(found.shared.length, "node")} shared, Jaccard ${found.jaccard.toFixed(2)}`,
    `loss ${before.loss.toFixed(3)} → ${after.loss.toFixed(3)} (${signed(found.lossChange)})`,
    found.edgesKnown
      ? `${count(found.addedEdges.length, "edge")} only here, ${found.removedEdges.length} only there`
      : "edges of one of the two were never measured",
  ];
  const changes = found.changes
    .slice(0, LISTED_MAX)
    .map((change) =>
      h(
        "tr",
        {},
        h("td", {}, link(change.node, actions)),
        h("td", { class: "number" }, signed(change.before)),
        h("td", { class: "number" }, signed(change.after)),
        h("td", { class: "number" }, percentOrEmpty(change.before, change.after)),
      ),
    );
  return [
    h("ul", { class: "facts" }, ...facts.map((fact) => h("li", {}, fact))),
    h(
      "p",
      {},
      h("span", { class: "owner after" }, `■ only here (k ${shown.k})`),
      " ",
      h("span", { class: "owner before" }, `■ only there (k ${before.k})`),
    ),
    list("Only here", found.added, actions),
    list("Only there", found.removed, actions),
    h(
      "table",
      {},
      h("caption", {}, "Nodes of both whose delta differs most"),
      h(
        "thead",
        {},
        h("tr", {}, ...["node", "there", "here", ""].map((name) => h("th", { scope: "col" }, name))),
      ),
      h("tbody", {}, ...changes),
    ),
  ];
}

function list(title: string, nodes: readonly Node[], actions: CompareActions): HTMLElement {
  const links = nodes.slice(0, LISTED_MAX).map((node) => link(node, actions));
  const more = nodes.length - links.length;
  return h(
    "details",
    {},
    h("summary", {}, `${title}: ${nodes.length}`),
    h("div", { class: "chips" }, ...links, more > 0 && ` and ${more} more`),
  );
}

function link(node: Node, actions: CompareActions): HTMLElement {
  const made = button(nameOf(node), () => actions.select(nameOf(node)));
  made.className = "link";
  return made;
}

function percentOrEmpty(before: number, after: number): string {
  return Math.abs(before) < 1e-3
    ? ""
    : `${after >= before ? "+" : "−"}${percent(Math.abs((after - before) / before))}`;
}
