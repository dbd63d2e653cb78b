// What colours mean: a number becomes one of a few shades, and numbers become short text.

/** Shades on each side of zero that are drawn; the server's levels go to 9. */
export const SHADES = 5;
const SERVER_LEVELS = 9;

/** A shade from -SHADES to SHADES; 0 is what no colour shows. */
export type Shade = number;

/** The shade of one of the server's levels (-9 to 9): never 0 for a level that is not. */
export function shadeOfLevel(level: number): Shade {
  return Math.sign(level) * Math.ceil((Math.min(Math.abs(level), SERVER_LEVELS) * SHADES) / SERVER_LEVELS);
}

/** The shade of `value` where `limit` has the strongest; null has none. */
export function shadeOf(value: number | null, limit: number): Shade {
  if (value === null || !(limit > 0)) return 0;
  const share = Math.min(1, Math.abs(value) / limit);
  return Math.sign(value) * Math.round(share * SHADES);
}

/** The largest magnitude; 0 of nothing. */
export function limitOf(values: Iterable<number | null>): number {
  let limit = 0;
  for (const value of values) if (value !== null) limit = Math.max(limit, Math.abs(value));
  return limit;
}

/** Index of the largest magnitude; -1 where all are zero or none is known. */
export function strongestOf(values: readonly (number | null)[]): number {
  let found = -1;
  let most = 0;
  values.forEach((value, i) => {
    if (value !== null && Math.abs(value) > most) {
      found = i;
      most = Math.abs(value);
    }
  });
  return found;
}

/** Three significant digits, in few characters. */
export function short(value: number): string {
  if (value === 0) return "0";
  const size = Math.abs(value);
  const text = size >= 1e-3 && size < 1e5 ? String(Number(value.toPrecision(3))) : value.toExponential(1);
  return text.replaceAll("-", "−");
}

/** With its sign, three decimals: a change of a loss. */
export function signed(value: number): string {
  const text = Math.abs(value).toFixed(3);
  return `${value < 0 && Number(text) !== 0 ? "−" : "+"}${text}`;
}

/** A share as percent. */
export function percent(share: number): string {
  return `${(100 * share).toFixed(1)}%`;
}

/** Bytes with a unit. */
export function bytes(n: number): string {
  const units = ["B", "kB", "MB", "GB", "TB"];
  let value = n;
  let unit = 0;
  while (value >= 1000 && unit < units.length - 1) {
    value /= 1000;
    unit += 1;
  }
  return `${unit === 0 || value >= 100 ? value.toFixed(0) : value.toFixed(1)} ${units[unit]}`;
}

/** The number and its noun: `1 node`, `2 nodes`. */
export function count(n: number, noun: string, plural = `${noun}s`): string {
  return `${n.toLocaleString("en")} ${n === 1 ? noun : plural}`;
}
