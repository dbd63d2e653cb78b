// Walking a circuit by keyboard: along edges up and down the pass, sideways along a row.

import type { Joined } from "../shared/nodes";
import type { Layout } from "./layout";

export type Step = "up" | "down" | "left" | "right" | "first" | "last";

/** Keys of the graph that take a step. */
export const STEPS: { readonly [key: string]: Step } = {
  ArrowUp: "up",
  ArrowDown: "down",
  ArrowLeft: "left",
  ArrowRight: "right",
  Home: "first",
  End: "last",
};

/** Rows of nodes from top to bottom, each from left to right. */
export function rowsOf(layout: Layout): number[][] {
  const rows = layout.ranks.flatMap((rank) => rank.rows);
  return rows.map((row) => row.flatMap((group) => group.nodes));
}

/** The node that a step from `from` (null: from nowhere) leads to. */
export function step(
  how: Step,
  from: number | null,
  layout: Layout,
  graph: { readonly source: readonly number[]; readonly target: readonly number[] },
  edges: Joined,
  isShown: (edge: number) => boolean,
): number | null {
  const rows = rowsOf(layout);
  const all = rows.flat();
  if (how === "last") return all.at(-1) ?? null;
  if (from === null || how === "first") return all[0] ?? null;
  const r = rows.findIndex((row) => row.includes(from));
  if (how === "left" || how === "right") {
    const place = all.indexOf(from) + (how === "left" ? -1 : 1);
    return all[place] ?? from;
  }
  const along = how === "down" ? edges.out[from] : edges.in[from];
  const edge = along?.find(isShown);
  if (edge !== undefined) return (how === "down" ? graph.target : graph.source)[edge] ?? from;
  const next = rows[r + (how === "down" ? 1 : -1)];
  if (next === undefined) return from;
  const x = layout.boxes[from]?.x ?? 0;
  const away = (i: number) => Math.abs((layout.boxes[i]?.x ?? 0) - x);
  return next.reduce((best, i) => (away(i) < away(best) ? i : best));
}
