// What the panel shows, as Python that asks for the same.

import type { Node } from "../protocol.generated";
import { nameOf } from "./nodes";

/** A script for `circuit`, with `dropped` nodes turned off and one node looked at. */
export function asPython(circuit: string, dropped: readonly Node[], selected: Node | null): string {
  const lines = [
    "from circuit_client import connect",
    "",
    "with connect() as c:",
    `    shown = c.circuits.show(${quoted(circuit)})`,
    '    print(shown.circuit.task, f"loss {shown.circuit.measured.loss:.3f}")',
  ];
  if (dropped.length > 0) {
    lines.push(
      `    without = c.circuits.edit(${quoted(circuit)}, drop=${quoted(dropped.map(nameOf).join(" "))})`,
      '    print(f"without: loss {without.circuit.measured.loss:.3f} ({without.delta:+.3f})")',
    );
  }
  if (selected !== null) {
    lines.push(
      `    active = c.circuits.samples(${quoted(selected.site)}, ${selected.channel}, circuit=${quoted(circuit)})`,
      "    print(active.mean, active.quantiles)",
    );
  }
  return `${lines.join("\n")}\n`;
}

/** A Python string: JSON's escapes are Python's, too. */
function quoted(text: string): string {
  return JSON.stringify(text);
}
