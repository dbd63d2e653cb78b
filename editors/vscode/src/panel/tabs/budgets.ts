// The circuits of a task across budgets k: their losses, and which nodes each of them keeps.

import type { CircuitGraph, CircuitInfo, MaskTable } from "../../protocol.generated";
import { count } from "../../shared/scale";
import { button, h } from "../dom";
import { plot } from "../plot";

export interface BudgetActions {
  open(circuit: string): void;
  /** Select a node of the circuit shown; undefined for one that it has not. */
  select(name: string): (() => void) | undefined;
}

/** Loss against k and the masks; `masks` null: still on their way, a string: why there are none. */
export function budgetsTab(
  graph: CircuitGraph,
  masks: MaskTable | string | null,
  actions: BudgetActions,
): HTMLElement {
  const { info, siblings } = graph;
  return h(
    "div",
    {},
    plot({
      title: `Loss against k, ${info.task}`,
      xName: "nodes kept",
      yName: "nats per side",
      points: siblings
        .filter((x) => x.broken === null)
        .map((x) => ({
          x: x.k,
          y: x.loss,
          words: `${count(x.k, "node")}: loss ${x.loss.toFixed(3)} (${x.sweep}/${x.label})`,
          isCurrent: x.id === info.id,
          choose: () => actions.open(x.id),
        })),
      levels: [
        { y: info.modelLoss, name: "the whole model" },
        { y: Math.LN2, name: "chance" },
      ],
    }),
    maskTable(info, masks, actions),
  );
}

function maskTable(info: CircuitInfo, masks: MaskTable | string | null, actions: BudgetActions): HTMLElement {
  if (masks === null)
    return h("p", { class: "faint", "aria-busy": "true" }, "Laying the masks side by side …");
  if (typeof masks === "string") return h("p", { class: "faint" }, masks);
  const heads = masks.circuits.map((circuit) => {
    const open = button(String(circuit.k), () => actions.open(circuit.id), {
      title: `${circuit.sweep}/${circuit.label}, loss ${circuit.loss.toFixed(3)}`,
    });
    return h("th", { scope: "col", "aria-current": circuit.id === info.id ? "true" : null }, open);
  });
  const bodies: HTMLElement[] = [];
  let site = "";
  for (const row of masks.rows) {
    if (row.site !== site) {
      site = row.site;
      bodies.push(
        h("tr", { class: "site" }, h("th", { scope: "rowgroup", colspan: heads.length + 1 }, site)),
      );
    }
    const name = `${row.site}[${row.channel}]`;
    const select = actions.select(name);
    const label = select === undefined ? row.label : button(row.label, select, { title: name });
    if (typeof label !== "string") label.className = "link";
    const kept = new Set(row.keptBy);
    bodies.push(
      h(
        "tr",
        {},
        h("th", { scope: "row" }, label),
        ...masks.circuits.map((circuit, i) =>
          h(
            "td",
            { class: kept.has(i) ? "kept" : "", "aria-label": kept.has(i) ? `kept at k ${circuit.k}` : null },
            kept.has(i) ? "■" : "·",
          ),
        ),
      ),
    );
  }
  return h(
    "table",
    { class: "masks" },
    h("caption", {}, `Nodes kept by ${count(masks.circuits.length, "circuit")}`),
    h("thead", {}, h("tr", {}, h("th", { scope: "col" }, "k"), ...heads)),
    h("tbody", {}, ...bodies),
  );
}
