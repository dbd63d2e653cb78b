// The row above the picture: which circuit, how many edges, pin, pause, follow, and export.

import type { CircuitGraph, CircuitInfo } from "../protocol.generated";
import { short } from "../shared/scale";
import { button, h } from "./dom";
import type { Kept } from "./kept";
import type { Scene } from "./scene";

export const EXPORTS = {
  svg: "Picture (SVG)",
  png: "Picture (PNG)",
  json: "Circuit (JSON)",
  page: "Page that opens anywhere (HTML)",
  python: "Copy as Python",
} as const;
export type ExportKind = keyof typeof EXPORTS;

export interface ToolbarEvents {
  open(circuit: string): void;
  change(change: Partial<Kept>): void;
  export(kind: ExportKind): void;
}

export class Toolbar {
  readonly element: HTMLElement;
  readonly #circuit = h("select", { "aria-label": "Circuit", "data-name": "circuit" });
  readonly #edges = h("input", {
    type: "range",
    min: 0,
    max: 100,
    step: 1,
    id: "edges",
    "data-name": "edges",
  });
  readonly #count = h("output", { for: "edges" });
  readonly #carried = h("input", { type: "checkbox", id: "carried" });
  readonly #pin: HTMLButtonElement;
  readonly #pause: HTMLButtonElement;
  readonly #follow: HTMLButtonElement;
  #nEdges = 0;

  constructor(events: ToolbarEvents, isLive: boolean) {
    const flip = (label: string, title: string, name: "isPinned" | "isPaused" | "follows") => {
      const made = button(
        label,
        () => events.change({ [name]: made.getAttribute("aria-pressed") !== "true" }),
        {
          title,
          pressed: false,
          name,
        },
      );
      return made;
    };
    this.#pin = flip("Pin", "Stay at this circuit when the session moves to another", "isPinned");
    this.#pause = flip("Pause", "Neither follow the session nor move it", "isPaused");
    this.#follow = flip(
      "Follow cursor",
      "Show which nodes are active at the token under the cursor",
      "follows",
    );
    this.#circuit.addEventListener("change", () => events.open(this.#circuit.value));
    this.#edges.addEventListener("input", () =>
      events.change({ edgesShown: toEdges(Number(this.#edges.value), this.#nEdges) }),
    );
    this.#carried.addEventListener("change", () => events.change({ showsCarried: this.#carried.checked }));
    const kinds = Object.entries(EXPORTS).filter(
      ([kind]) => isLive || ["svg", "png", "python"].includes(kind),
    );
    const menu = h(
      "select",
      { "aria-label": "Export", "data-name": "export" },
      h("option", { value: "" }, "Export …"),
      ...kinds.map(([kind, label]) => h("option", { value: kind }, label)),
    );
    menu.addEventListener("change", () => {
      if (menu.value !== "") events.export(menu.value as ExportKind);
      menu.value = "";
    });
    this.element = h(
      "div",
      { class: "toolbar", role: "toolbar", "aria-label": "Circuit" },
      this.#circuit,
      h("label", { for: "edges" }, "edges"),
      this.#edges,
      this.#count,
      h("label", { class: "check" }, this.#carried, "stream"),
      h("span", { class: "spring" }),
      ...(isLive ? [this.#follow, this.#pin, this.#pause] : []),
      menu,
    );
  }

  /** The circuits to choose from, by task. */
  circuits(infos: readonly CircuitInfo[], shown: string | null): void {
    const tasks = new Map<string, CircuitInfo[]>();
    for (const info of infos) tasks.set(info.task, [...(tasks.get(info.task) ?? []), info]);
    const groups = [...tasks]
      .sort(([a], [b]) => a.localeCompare(b))
      .map(([task, found]) =>
        h(
          "optgroup",
          { label: task },
          ...found
            .sort((a, b) => a.k - b.k)
            .map((x) =>
              h(
                "option",
                { value: x.id, selected: x.id === shown, disabled: x.broken !== null },
                `${task} · k ${x.k} · ${x.sweep}${x.verdict === null ? "" : ` · ${x.verdict}`}`,
              ),
            ),
        ),
      );
    this.#circuit.replaceChildren(...groups);
    if (shown !== null) this.#circuit.value = shown;
  }

  show(kept: Kept, scene: Scene | null, nShown: number): void {
    this.#nEdges = scene?.strongest.length ?? 0;
    this.#edges.disabled = this.#nEdges === 0;
    this.#edges.value = String(toPlace(nShown, this.#nEdges));
    this.#count.textContent = scene === null ? "" : countWords(scene.graph, scene.strongest, nShown);
    this.#carried.checked = kept.showsCarried;
    this.#pin.setAttribute("aria-pressed", String(kept.isPinned));
    this.#pause.setAttribute("aria-pressed", String(kept.isPaused));
    this.#follow.setAttribute("aria-pressed", String(kept.follows));
  }
}

// The slider's left half is for the strongest quarter: there one edge more makes a difference.
function toEdges(place: number, n: number): number {
  return Math.round(n * (place / 100) ** 2);
}

function toPlace(shown: number, n: number): number {
  return n === 0 ? 0 : Math.round(100 * Math.sqrt(Math.min(1, shown / n)));
}

function countWords(graph: CircuitGraph, strongest: readonly number[], nShown: number): string {
  const n = strongest.length;
  const least = strongest[Math.min(nShown, n) - 1];
  const delta = least === undefined ? undefined : graph.edges.delta?.[least];
  const from = delta === undefined || nShown >= n ? "" : `, from ${short(Math.abs(delta))} nats`;
  return `${Math.min(nShown, n).toLocaleString("en")} of ${n.toLocaleString("en")}${from}`;
}
