// The column beside the picture: tabs, of which one is shown.

import type { CircuitGraph, CircuitInfo, Comparison, MaskTable, NodeSamples } from "../protocol.generated";
import { nameOf } from "../shared/nodes";
import { button, h } from "./dom";
import { TABS, type Tab } from "./kept";
import type { Scene } from "./scene";
import { budgetsTab } from "./tabs/budgets";
import { cardTab } from "./tabs/card";
import { compareTab } from "./tabs/compare";
import { type NodeActions, nodeTab } from "./tabs/node";
import { pruningTab } from "./tabs/pruning";

const NAMES: { readonly [tab in Tab]: string } = {
  node: "Node",
  budgets: "Budgets",
  pruning: "Pruning",
  card: "Verification",
  compare: "Compare",
};

export interface Inspected {
  readonly scene: Scene;
  readonly graph: CircuitGraph;
  readonly isLive: boolean;
  readonly selected: number | null;
  isDropped(name: string): boolean;
  readonly samples: NodeSamples | null;
  readonly samplesProblem: string | null;
  readonly masks: MaskTable | string | null;
  readonly others: readonly CircuitInfo[];
  readonly compare: string | null;
  readonly comparison: Comparison | string | null;
  readonly actions: NodeActions & {
    open(circuit: string): void;
    selectNamed(name: string): (() => void) | undefined;
    verify(): void;
    compare(circuit: string | null): void;
  };
}

export class Inspector {
  readonly element: HTMLElement;
  readonly #tabs = new Map<Tab, HTMLButtonElement>();
  readonly #page = h("div", { id: "tab-page", class: "page", role: "tabpanel", tabindex: 0 });
  readonly #complaint = h("p", { class: "complaint", role: "alert", hidden: true });

  constructor(choose: (tab: Tab) => void) {
    const list = h("div", { class: "tabs", role: "tablist", "aria-label": "Circuit" });
    for (const tab of TABS) {
      const made = button(NAMES[tab], () => choose(tab), { name: tab });
      made.setAttribute("role", "tab");
      made.setAttribute("aria-controls", "tab-page");
      this.#tabs.set(tab, made);
      list.append(made);
    }
    list.addEventListener("keydown", (event) => {
      const way = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
      if (way === undefined) return;
      const at = TABS.findIndex((tab) => this.#tabs.get(tab) === document.activeElement);
      const next = TABS[(at + way + TABS.length) % TABS.length]!;
      choose(next);
      this.#tabs.get(next)?.focus();
    });
    this.element = h("aside", { "aria-label": "Details" }, list, this.#complaint, this.#page);
  }

  /** What went wrong, until the next page. */
  complain(sentence: string): void {
    this.#complaint.textContent = sentence;
    this.#complaint.hidden = false;
  }

  show(tab: Tab, inspected: Inspected): void {
    const isOther = this.#page.dataset.tab !== tab;
    for (const [name, made] of this.#tabs) {
      made.setAttribute("aria-selected", String(name === tab));
      made.tabIndex = name === tab ? 0 : -1;
    }
    this.#page.dataset.tab = tab;
    this.#page.setAttribute("aria-label", NAMES[tab]);
    // Rebuilt whole; the place that was read stays in sight.
    const { scrollTop } = this.#page;
    const focused = this.#page.contains(document.activeElement)
      ? (document.activeElement as HTMLElement).dataset.name
      : undefined;
    this.#page.replaceChildren(pageOf(tab, inspected));
    this.#page.scrollTop = isOther ? 0 : scrollTop;
    if (isOther) this.#complaint.hidden = true;
    if (focused !== undefined) this.#page.querySelector<HTMLElement>(`[data-name="${focused}"]`)?.focus();
  }
}

function pageOf(tab: Tab, x: Inspected): HTMLElement {
  const { actions, graph } = x;
  switch (tab) {
    case "node": {
      const node = x.selected === null ? undefined : x.scene.graph.nodes[x.selected];
      if (x.selected === null || node === undefined) return nothingSelected();
      return nodeTab(x, x.selected, x.isDropped(nameOf(node)), actions);
    }
    case "budgets":
      return budgetsTab(graph, x.masks, {
        open: (circuit) => actions.open(circuit),
        select: (name) => actions.selectNamed(name),
      });
    case "pruning":
      return pruningTab(graph);
    case "card":
      return cardTab(graph, x.isLive ? () => actions.verify() : null);
    case "compare":
      return compareTab(graph.info, x.others, x.compare, x.comparison, {
        choose: (circuit) => actions.compare(circuit),
        select: (name) => actions.selectNamed(name)?.(),
      });
  }
}

function nothingSelected(): HTMLElement {
  return h(
    "div",
    { class: "faint" },
    h(
      "p",
      {},
      "Click a node, or walk there with the arrow keys: up and down along the strongest edges, left and right in a row.",
    ),
    h(
      "p",
      {},
      "Enter turns the selected node off and on, and the loss answers at once. Colours are what a node's ablation, or an edge's cut, adds to the loss.",
    ),
  );
}
