// Whether to believe a circuit: the verdict, its reasons, and every control with its numbers.

import type { CardControl, CircuitGraph } from "../../protocol.generated";
import { percent, short } from "../../shared/scale";
import { button, h } from "../dom";

/** `verify` starts the controls as a job; null where nothing can be computed. */
export function cardTab({ card }: CircuitGraph, verify: (() => void) | null): HTMLElement {
  const again = verify && button(card === null ? "Verify" : "Verify again", verify, { name: "verify" });
  if (card === null) {
    return h(
      "div",
      {},
      h(
        "p",
        {},
        "Nobody has put this circuit to its controls. Pruning also finds small circuits for nonsense and in random weights: without controls a circuit convinces nobody.",
      ),
      again,
    );
  }
  const depends = card.dependsOn.length > 0 ? ` on ${card.dependsOn.join(", ")}` : "";
  return h(
    "div",
    {},
    h("h2", { class: `verdict ${card.verdict.replace(" ", "-")}` }, `${card.verdict}${depends}`),
    h("ul", {}, ...card.reasons.map((reason) => h("li", {}, reason))),
    again,
    ...card.controls.map(control),
  );
}

function control({ name, passed, sentence, measurements }: CardControl): HTMLElement {
  const [mark, words] = passed === null ? ["○", "open"] : passed ? ["✓", "passed"] : ["✗", "failed"];
  const rows = measurements.map((m) => {
    const show = (value: number) => (m.unit === "share" ? percent(value) : short(value));
    const interval = m.low === null || m.high === null ? "" : `${show(m.low)} to ${show(m.high)}`;
    return h(
      "tr",
      {},
      h("th", { scope: "row" }, m.name.replaceAll("_", " ")),
      h("td", { class: "number" }, show(m.value)),
      h("td", { class: "number faint" }, interval),
      h("td", { class: "faint" }, m.unit === "share" ? "" : m.unit),
    );
  });
  return h(
    "details",
    { class: `control ${words}`, open: passed === false },
    h(
      "summary",
      {},
      h("span", { class: "mark", "aria-label": words, role: "img" }, mark),
      ` ${name.replaceAll("_", " ")}`,
    ),
    h("p", {}, sentence),
    rows.length > 0 && h("table", {}, h("tbody", {}, ...rows)),
  );
}
