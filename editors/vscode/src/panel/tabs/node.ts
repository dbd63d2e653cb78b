// One node: what it is joined to, and where it is active in the wild, on the task and in your text.

import type { NodeSamples, SampleBand, TaskSample } from "../../protocol.generated";
import { nameOf } from "../../shared/nodes";
import { limitOf, percent, short, signed } from "../../shared/scale";
import { button, h } from "../dom";
import type { Scene } from "../scene";
import { legend, tokenText } from "../tokens";

export interface NodeActions {
  select(node: number): void;
  toggle(node: number): void;
  copy(text: string, what: string): void;
  /** Colour the open document by it; null where there is none. */
  heat: (() => void) | null;
}

const JOINED_MAX = 12;

/** What is known around the node; `samples` null, or without a mean: more is on its way, or a problem. */
export interface NodeSurroundings {
  readonly scene: Scene;
  readonly isLive: boolean;
  readonly samples: NodeSamples | null;
  readonly samplesProblem: string | null;
}

/** The page of node `i`. */
export function nodeTab(
  around: NodeSurroundings,
  i: number,
  isDropped: boolean,
  actions: NodeActions,
): HTMLElement {
  const { scene, isLive } = around;
  const node = scene.graph.nodes[i]!;
  const facts = [
    node.head === null ? `channel ${node.channel}` : `head ${node.head}, channel ${node.within} of it`,
    node.delta === null ? "not measured" : `${signed(node.delta)} nats when ablated`,
  ];
  const toggle = button(isDropped ? "Turn on" : "Turn off", () => actions.toggle(i), {
    title: "Ablate it in the circuit, and in the session (x)",
    pressed: isDropped,
    name: "toggle",
  });
  return h(
    "div",
    { class: "node-tab" },
    h("h2", {}, nameOf(node)),
    h("p", { class: "faint" }, facts.join(" · ")),
    h(
      "div",
      { class: "row" },
      isLive && toggle,
      isLive && actions.heat !== null && button("Colour the document", actions.heat, { name: "heat" }),
      button("Copy name", () => actions.copy(nameOf(node), nameOf(node))),
    ),
    joinedList("Reads from", scene, scene.joined.in[i]!, "source", actions),
    joinedList("Writes to", scene, scene.joined.out[i]!, "target", actions),
    ...sampleSections(around),
  );
}

function joinedList(
  title: string,
  scene: Scene,
  edges: readonly number[],
  end: "source" | "target",
  actions: NodeActions,
): HTMLElement | null {
  if (edges.length === 0) return null;
  const { graph } = scene;
  const rows = edges.slice(0, JOINED_MAX).map((e) => {
    const other = graph.edges[end][e]!;
    const delta = graph.edges.delta?.[e];
    const name = button(nameOf(graph.nodes[other]!), () => actions.select(other));
    name.className = "link";
    return h(
      "tr",
      {},
      h("td", {}, name),
      h("td", { class: "number" }, short(graph.edges.weight[e]!)),
      h("td", { class: "number" }, delta === undefined ? "" : signed(delta)),
    );
  });
  const left = edges.length - rows.length;
  return h(
    "table",
    {},
    h("caption", {}, `${title} ${edges.length}`),
    h(
      "thead",
      {},
      h(
        "tr",
        {},
        h("th", { scope: "col" }, "node"),
        h("th", { scope: "col" }, "weight"),
        h("th", { scope: "col" }, "nats when cut"),
      ),
    ),
    h(
      "tbody",
      {},
      ...rows,
      left > 0 && h("tr", {}, h("td", { colspan: 3, class: "faint" }, `and ${left} weaker`)),
    ),
  );
}

function sampleSections({ scene, isLive, samples, samplesProblem }: NodeSurroundings): HTMLElement[] {
  const { graph } = scene;
  const waiting = (words: string) =>
    samplesProblem === null
      ? h("p", { class: "faint", "aria-busy": "true" }, words)
      : h("p", { class: "faint" }, samplesProblem);
  if (samples === null) return [waiting("Looking where it is active …")];
  const { limit, document } = samples;
  const sections = [legend(limit, "activation")];
  if (document !== null) {
    const here = limitOf(document.values);
    const scale = here > 0 && here < limit / 4 ? here : limit;
    const words =
      scale === limit ? [] : [h("p", { class: "faint" }, `weak here: colours reach to ${short(scale)}`)];
    sections.push(section("In the open document", true, ...words, tokenText(document, scale)));
  }
  if (samples.taskSamples.length > 0) {
    sections.push(section(`On the task ${samples.task ?? graph.info.task}`, true, ...taskTexts(samples)));
  }
  if (samples.bands.length > 0) {
    sections.push(section("In pretraining text", document === null, ...bandTexts(samples.bands, limit)));
  }
  if (samples.mean === null)
    return isLive
      ? [...sections, waiting("Looking at pretraining text, which takes a while at first …")]
      : sections;
  const spread = samples.quantilesAt.map((at, q) => `${percent(at)}: ${short(samples.quantiles[q] ?? 0)}`);
  sections.push(
    section(
      "Distribution",
      false,
      h("p", {}, `mean ${short(samples.mean)}`),
      h("p", { class: "faint" }, spread.join(" · ")),
    ),
  );
  return sections;
}

function section(title: string, isOpen: boolean, ...children: readonly HTMLElement[]): HTMLElement {
  return h("details", { open: isOpen }, h("summary", {}, title), ...children);
}

/** Both sides of each pair below each other, with the attention of the node's head. */
function taskTexts(samples: NodeSamples): HTMLElement[] {
  const pairs = new Map<number, TaskSample[]>();
  for (const sample of samples.taskSamples)
    pairs.set(sample.pair, [...(pairs.get(sample.pair) ?? []), sample]);
  const texts = [...pairs.values()].map((sides) =>
    h("div", { class: "pair" }, ...sides.map((side) => tokenText(side.text, samples.limit))),
  );
  const attention = samples.patterns.map((pattern) => {
    const texts = samples.taskSamples[pattern.sample]?.text.texts ?? [];
    const shown = tokenText(
      { texts: texts.slice(0, pattern.shares.length), values: pattern.shares, position: null },
      1,
    );
    const sink = pattern.sink === null ? "" : `, ${percent(pattern.sink)} to the sink`;
    return h(
      "div",
      {},
      h("p", { class: "faint" }, `Attention of head ${pattern.head} from the last token${sink}`),
      shown,
    );
  });
  return [...texts, ...attention];
}

function bandTexts(bands: readonly SampleBand[], limit: number): HTMLElement[] {
  return bands.map((band) =>
    h(
      "details",
      { open: band.end === "top" && band === bands.find((x) => x.end === "top") },
      h("summary", { class: "minor" }, `${band.end} ${percent(band.fraction)}`),
      ...band.windows.map((window) => tokenText(window, limit)),
    ),
  );
}
