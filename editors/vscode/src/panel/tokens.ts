// Text whose tokens are coloured by a number each, with the legend that says what colours mean.

import type { SampleText } from "../protocol.generated";
import { SHADES, shadeOf, short, strongestOf } from "../shared/scale";
import { h } from "./dom";

/** Classes of a shade: colour behind, and a line below whose style says the sign. */
export function shadeClass(shade: number): string {
  return shade === 0 ? "" : shade > 0 ? `heat positive${shade}` : `heat negative${-shade}`;
}

/** The tokens in running text. The strongest is framed, the sampled one is marked. */
export function tokenText(sample: SampleText, limit: number): HTMLElement {
  const strongest = strongestOf(sample.values);
  const spans = sample.texts.map((text, i) => {
    const value = sample.values[i] ?? 0;
    const marks = [
      shadeClass(shadeOf(value, limit)),
      i === strongest ? "strongest" : "",
      i === sample.position ? "sampled" : "",
    ];
    return h(
      "span",
      { class: marks.filter(Boolean).join(" ") || null, title: short(value) },
      withBreaks(text),
    );
  });
  return h("div", { class: "tokens" }, ...spans);
}

/** The server shows ends of lines as a sign; here lines end there, too. */
function withBreaks(text: string): string {
  return text.replaceAll("↵", "↵\n");
}

/** The scale itself, from the lowest shade to the highest, with the numbers at its ends. */
export function legend(limit: number, unit: string, isDiverging = true): HTMLElement {
  const first = isDiverging ? -SHADES : 1;
  const swatches = Array.from({ length: SHADES - first + 1 }, (_, i) =>
    h("span", { class: `swatch ${shadeClass(first + i)}` }, " "),
  );
  return h(
    "div",
    {
      class: "legend",
      role: "img",
      "aria-label": `Colours from ${isDiverging ? short(-limit) : 0} to ${short(limit)} ${unit}`,
    },
    isDiverging ? short(-limit) : "0",
    ...swatches,
    `${short(limit)} ${unit}`,
  );
}
