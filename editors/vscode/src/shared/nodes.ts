// Nodes by name, and what a circuit's graph says about who is joined to whom.

import type { CircuitGraph, Node } from "../protocol.generated";

/** The notation of one node, like `2.mlp.post_act[3]`. */
export function nameOf(node: Node): string {
  return `${node.site}[${node.channel}]`;
}

/** The node of that name; undefined where the text is none. */
export function nodeNamed(name: string): Node | undefined {
  const match = /^([^\s[\]]+)\[(\d+)\]$/.exec(name);
  return match?.[1] === undefined ? undefined : { site: match[1], channel: Number(match[2]) };
}

/** Nodes of one intervention each, as the session holds them: every node at its mean. */
export function meanAblation(node: Node): string {
  return `mean:${nameOf(node)}`;
}

/** The nodes that whole-row mean ablations among `interventions` hold, in order. */
export function meanAblated(interventions: readonly string[]): Node[] {
  return interventions.flatMap((words) => {
    const match = /^mean:([^\s[\]{}@#]+)\[([\d,]+)\]$/.exec(words);
    if (match?.[1] === undefined || match[2] === undefined) return [];
    const site = match[1];
    return match[2].split(",").map((channel) => ({ site, channel: Number(channel) }));
  });
}

/** Neighbours of each node of a graph. */
export interface Joined {
  /** Edges (their numbers) that begin at a node, strongest first. */
  readonly out: readonly (readonly number[])[];
  /** Edges that end at a node, strongest first. */
  readonly in: readonly (readonly number[])[];
}

/** Who is joined to whom by edges. */
export function joined(graph: Pick<CircuitGraph, "nodes" | "edges">): Joined {
  const { source, target } = graph.edges;
  const out: number[][] = graph.nodes.map(() => []);
  const into: number[][] = graph.nodes.map(() => []);
  for (const e of byStrength(graph.edges)) {
    out[source[e] ?? -1]?.push(e);
    into[target[e] ?? -1]?.push(e);
  }
  return { out, in: into };
}

/** Numbers of edges, strongest first: by the delta's size, then by the weight's. */
export function byStrength(edges: CircuitGraph["edges"]): number[] {
  const size = (e: number) => Math.abs(edges.delta?.[e] ?? 0);
  const weight = (e: number) => Math.abs(edges.weight[e] ?? 0);
  return edges.source.map((_, e) => e).sort((a, b) => size(b) - size(a) || weight(b) - weight(a));
}

/** Numbers of nodes by name. */
export function indexOf(graph: Pick<CircuitGraph, "nodes">): Map<string, number> {
  return new Map(graph.nodes.map((node, i) => [nameOf(node), i]));
}
