// A circuit as it is to be drawn: places, shades and what is shown, worked out once per change.

import type { CircuitGraph, GraphNode, NodeEffect, TokenDetail } from "../protocol.generated";
import { byStrength, indexOf, type Joined, joined, nameOf } from "../shared/nodes";
import { count, limitOf, type Shade, shadeOf, signed } from "../shared/scale";
import type { Owner } from "./compare";
import { type Layout, layOut } from "./layout";

export interface Scene {
  readonly graph: CircuitGraph;
  readonly layout: Layout;
  readonly joined: Joined;
  /** Numbers of edges, strongest first. */
  readonly strongest: readonly number[];
  readonly nodeShades: readonly Shade[];
  readonly edgeShades: readonly Shade[];
  /** Share of the strongest edge, from 0 to 1. */
  readonly edgeShares: readonly number[];
  readonly nodeLimit: number;
  /** Whose nodes and edges are, where two circuits are compared. */
  readonly owners: { readonly nodes: readonly Owner[]; readonly edges: readonly Owner[] } | null;
}

/**
 * The scene of a circuit, with rows that fit a view of `viewWidth` at a zoom that can be read.
 * The layout is the expensive part: some 100 ms for 10,000 edges.
 */
export function sceneOf(graph: CircuitGraph, owners: Scene["owners"] = null, viewWidth = 0): Scene {
  const { delta, weight } = graph.edges;
  const nodeLimit = limitOf(graph.nodes.map((node) => node.delta));
  const values = delta ?? weight;
  const edgeLimit = limitOf(values);
  return {
    graph,
    layout: layOut(graph, viewWidth > 0 ? Math.max(480, 1.3 * viewWidth) : undefined),
    joined: joined(graph),
    strongest: byStrength(graph.edges),
    nodeShades: graph.nodes.map((node) => shadeOf(node.delta, nodeLimit)),
    edgeShades: values.map((value) => shadeOf(value, edgeLimit) || Math.sign(value)),
    edgeShares: values.map((value) => (edgeLimit > 0 ? Math.abs(value) / edgeLimit : 0)),
    nodeLimit,
    owners,
  };
}

/** The strongest `n` edges. */
export function shownEdges(scene: Scene, n: number): ReadonlySet<number> {
  return new Set(scene.strongest.slice(0, n));
}

/** How active nodes are, as shares of the most active one, by number; null where none is. */
export function activity(scene: Scene, nodes: readonly NodeEffect[]): ReadonlyMap<number, number> | null {
  const index = indexOf(scene.graph);
  const limit = limitOf(nodes.map((x) => x.activation));
  const found = new Map<number, number>();
  for (const { node, activation } of nodes) {
    const i = index.get(nameOf(node));
    if (i !== undefined && activation !== null && limit > 0) found.set(i, activation / limit);
  }
  return found.size > 0 ? found : null;
}

/** Of what activity is shown: the token under the cursor, and how many nodes are active there. */
export function activityWords(token: TokenDetail | null, nActive: number): string {
  if (token === null) return "The cursor is in no text that the model reads.";
  const text = token.tokens.map((x) => x.text).join("");
  return `At the cursor, “${text}”: ${nActive === 0 ? "no node of this circuit is active" : `${count(nActive, "node")} active`}`;
}

/** A node in words, for tooltips and screen readers. */
export function nodeWords(node: GraphNode): string {
  const head = node.head === null ? "" : ` (head ${node.head})`;
  const delta = node.delta === null ? "" : `: ${signed(node.delta)} nats when ablated`;
  return `${nameOf(node)}${head}${delta}`;
}

/** A half block in words. */
export function blockWords(layer: number | null, half: string): string {
  return layer === null ? "after the last layer" : `layer ${layer} ${half === "attn" ? "attention" : half}`;
}
