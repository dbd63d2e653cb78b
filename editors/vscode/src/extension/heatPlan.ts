// Which tokens get which shade, and what the legend says: heat without an editor.

import type { Heat, HeatChoice, HeatToken } from "../protocol.generated";
import { nameOf } from "../shared/nodes";
import { count, SHADES, type Shade, shadeOfLevel, short } from "../shared/scale";

/** Tokens by shade; shade 0 is not there. */
export function tokensByShade(tokens: readonly HeatToken[]): Map<Shade, HeatToken[]> {
  const found = new Map<Shade, HeatToken[]>();
  for (const token of tokens) {
    const shade = shadeOfLevel(token.level);
    if (shade === 0) continue;
    const same = found.get(shade);
    if (same === undefined) found.set(shade, [token]);
    else same.push(token);
  }
  return found;
}

/** Every shade there is. */
export const ALL_SHADES: readonly Shade[] = Array.from({ length: SHADES }, (_, i) => i + 1).flatMap((n) => [
  n,
  -n,
]);

/** The theme's name of a shade's background. */
export function backgroundId(shade: Shade): string {
  return `circuit.heat${signOf(shade)}${Math.abs(shade)}`;
}

export function underlineId(shade: Shade): string {
  return `circuit.heat${signOf(shade)}Underline`;
}

function signOf(shade: Shade): string {
  return shade > 0 ? "Positive" : "Negative";
}

/** What a choice shows, in a few words. */
export function choiceWords(choice: HeatChoice): string {
  switch (choice.of ?? "loss") {
    case "loss":
      return "loss";
    case "probability":
      return "probability";
    case "node":
      return choice.node ? nameOf(choice.node) : "a node";
    case "difference":
      return choice.otherModel ? `loss in ${choice.otherModel} − loss` : "loss in the circuit − loss";
  }
}

/** The legend of a document's heat, for the status bar; empty where there is none. */
export function legendText(heat: Heat): string {
  if (heat.state === "off") return "";
  const what = choiceWords(heat.choice);
  if (heat.state === "waiting") return `$(loading~spin) ${what}`;
  if (heat.state === "unavailable") return `$(circle-slash) ${what}`;
  const { scale } = heat;
  if (scale === null) return `$(paintcan) ${what}`;
  const low = scale.kind === "diverging" ? short(-scale.limit) : "0";
  const n = heat.interventions.length;
  const changed = n === 0 ? "" : `, ${count(n, "intervention")}`;
  return `$(paintcan) ${what} ${low} … ${short(scale.limit)}${scale.unit === "" ? "" : ` ${scale.unit}`}${changed}`;
}

/** The legend in full: what colours and lines mean, and what was left out. */
export function legendTooltip(heat: Heat): string {
  const lines = [`**Heat: ${choiceWords(heat.choice)}**${heat.model === null ? "" : ` in ${heat.model}`}`];
  const { scale } = heat;
  if (scale !== null) {
    const unit = scale.unit === "" ? "" : ` ${scale.unit}`;
    lines.push(
      `Strongest colour: ${short(scale.limit)}${unit}. A solid line below is above zero${scale.kind === "diverging" ? ", a dashed one below" : ""}; the thicker, the more.`,
    );
  }
  if (heat.meanLoss !== null) lines.push(`Mean loss: ${heat.meanLoss.toFixed(3)} nats per token.`);
  if (!heat.isWhole) lines.push("A long document: read around the cursor.");
  if (heat.interventions.length > 0)
    lines.push(`With the session's interventions: ${heat.interventions.map((x) => `\`${x}\``).join(", ")}.`);
  if (heat.note !== null) lines.push(heat.note);
  return lines.join("\n\n");
}
