// Two circuits as one picture: nodes and edges of either, each marked with whose it is.

import type { CircuitGraph, GraphNode } from "../protocol.generated";
import { nameOf } from "../shared/nodes";

/** Whose a node or an edge is. */
export type Owner = "both" | "before" | "after";

/** The union of two circuits; deltas are those of `after`, else of `before`. */
export interface Union {
  readonly graph: CircuitGraph;
  readonly nodes: readonly Owner[];
  readonly edges: readonly Owner[];
}

/** Both circuits laid over each other. They are of one model. */
export function unite(before: CircuitGraph, after: CircuitGraph): Union {
  const nodes = new Map<string, { node: GraphNode; owner: Owner }>();
  for (const node of before.nodes) nodes.set(nameOf(node), { node, owner: "before" });
  for (const node of after.nodes) {
    const owner = nodes.has(nameOf(node)) ? "both" : "after";
    nodes.set(nameOf(node), { node, owner });
  }
  const sites = siteOrder(before, after);
  const all = [...nodes.values()].sort(
    (a, b) => sites.get(a.node.site)! - sites.get(b.node.site)! || a.node.channel - b.node.channel,
  );
  const at = new Map(all.map(({ node }, i) => [nameOf(node), i]));
  const edges = uniteEdges(before, after, at);
  return {
    graph: {
      ...after,
      nodes: all.map((x) => x.node),
      edges: edges.columns,
      carried: uniteCarried(before, after, at),
    },
    nodes: all.map((x) => x.owner),
    edges: edges.owners,
  };
}

/** The order of a layer's sites in the pass. */
const KINDS = [
  "attn.act_in",
  "attn.q",
  "attn.k",
  "attn.v",
  "attn.resid_delta",
  "mlp.act_in",
  "mlp.post_act",
  "mlp.resid_delta",
];

/** Sites of the graphs with their place in the pass; what is in no layer comes last. */
function siteOrder(...graphs: readonly CircuitGraph[]): Map<string, number> {
  const place = ({ layer, kind }: GraphNode) => (layer ?? 1e6) * 100 + KINDS.indexOf(kind);
  return new Map(graphs.flatMap((g) => g.nodes.map((node) => [node.site, place(node)])));
}

function uniteEdges(before: CircuitGraph, after: CircuitGraph, at: Map<string, number>) {
  const found = new Map<
    string,
    { a: number; b: number; weight: number; delta: number | null; owner: Owner }
  >();
  const hasDeltas = before.edges.delta !== null && after.edges.delta !== null;
  for (const [graph, whose] of [
    [before, "before"],
    [after, "after"],
  ] as const) {
    graph.edges.source.forEach((s, e) => {
      const a = at.get(nameOf(graph.nodes[s]!))!;
      const b = at.get(nameOf(graph.nodes[graph.edges.target[e]!]!))!;
      const key = `${a} ${b}`;
      found.set(key, {
        a,
        b,
        weight: graph.edges.weight[e] ?? 0,
        delta: graph.edges.delta?.[e] ?? null,
        owner: whose === "after" && found.has(key) ? "both" : whose,
      });
    });
  }
  const edges = [...found.values()];
  return {
    owners: edges.map((e) => e.owner),
    columns: {
      source: edges.map((e) => e.a),
      target: edges.map((e) => e.b),
      weight: edges.map((e) => e.weight),
      delta: hasDeltas ? edges.map((e) => e.delta ?? 0) : null,
    },
  };
}

function uniteCarried(before: CircuitGraph, after: CircuitGraph, at: Map<string, number>) {
  const found = new Map<string, [number, number]>();
  for (const graph of [before, after]) {
    graph.carried.source.forEach((s, i) => {
      const a = at.get(nameOf(graph.nodes[s]!))!;
      const b = at.get(nameOf(graph.nodes[graph.carried.target[i]!]!))!;
      found.set(`${a} ${b}`, [a, b]);
    });
  }
  const links = [...found.values()];
  return { source: links.map((x) => x[0]), target: links.map((x) => x[1]) };
}
