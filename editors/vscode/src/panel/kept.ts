// What a panel keeps over a reload of the window: read back with care, since an older one wrote it.

import type { Camera } from "./camera";

export const TABS = ["node", "budgets", "pruning", "card", "compare"] as const;
export type Tab = (typeof TABS)[number];

/** How the user looks at circuits. `edgesShown` null: as the settings say. */
export interface Kept {
  readonly circuit: string | null;
  readonly compare: string | null;
  readonly node: string | null;
  readonly tab: Tab;
  readonly isPinned: boolean;
  readonly isPaused: boolean;
  readonly follows: boolean;
  readonly showsCarried: boolean;
  readonly edgesShown: number | null;
  readonly camera: Camera | null;
}

export const FRESH: Kept = {
  circuit: null,
  compare: null,
  node: null,
  tab: "node",
  isPinned: false,
  isPaused: false,
  follows: false,
  showsCarried: true,
  edgesShown: null,
  camera: null,
};

/** What can be used of `value`; the rest as in a fresh panel. */
export function readKept(value: unknown): Kept {
  if (typeof value !== "object" || value === null) return FRESH;
  const found = value as { readonly [field: string]: unknown };
  const text = (field: unknown) => (typeof field === "string" ? field : null);
  const flag = (field: unknown, otherwise: boolean) => (typeof field === "boolean" ? field : otherwise);
  const number = (field: unknown) => (typeof field === "number" && Number.isFinite(field) ? field : null);
  return {
    circuit: text(found.circuit),
    compare: text(found.compare),
    node: text(found.node),
    tab: TABS.find((tab) => tab === found.tab) ?? FRESH.tab,
    isPinned: flag(found.isPinned, FRESH.isPinned),
    isPaused: flag(found.isPaused, FRESH.isPaused),
    follows: flag(found.follows, FRESH.follows),
    showsCarried: flag(found.showsCarried, FRESH.showsCarried),
    edgesShown: number(found.edgesShown),
    camera: cameraOf(found.camera),
  };
}

function cameraOf(value: unknown): Camera | null {
  if (typeof value !== "object" || value === null) return null;
  const { x, y, zoom } = value as { readonly [field: string]: unknown };
  const all = [x, y, zoom];
  if (!all.every((n): n is number => typeof n === "number" && Number.isFinite(n))) return null;
  return (zoom as number) > 0 ? { x: x as number, y: y as number, zoom: zoom as number } : null;
}
