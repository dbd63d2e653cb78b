// What differs between two circuits, worked out where there is no daemon to ask: the same answer.

import type { CircuitGraph, Comparison, EdgeName, GraphNode, Node } from "../protocol.generated";
import { nameOf } from "../shared/nodes";

/** The difference of two circuits of one model. */
export function differencesOf(before: CircuitGraph, after: CircuitGraph): Comparison {
  const old = new Map(before.nodes.map((node) => [nameOf(node), node]));
  const now = new Map(after.nodes.map((node) => [nameOf(node), node]));
  const shared = after.nodes.filter((node) => old.has(nameOf(node)));
  const nEither = old.size + now.size - shared.length;
  const [had, has] = [edgesOf(before), edgesOf(after)];
  const areEdgesKnown = before.hasEdges && after.hasEdges;
  return {
    before: before.info,
    after: after.info,
    added: after.nodes.filter((node) => !old.has(nameOf(node))).map(bare),
    removed: before.nodes.filter((node) => !now.has(nameOf(node))).map(bare),
    shared: shared.map(bare),
    addedEdges: areEdgesKnown ? without(has, had) : [],
    removedEdges: areEdgesKnown ? without(had, has) : [],
    edgesKnown: areEdgesKnown,
    jaccard: nEither === 0 ? 1 : shared.length / nEither,
    lossChange: after.info.loss - before.info.loss,
    changes: shared
      .flatMap((node) => {
        const [was, is] = [old.get(nameOf(node))?.delta ?? null, node.delta];
        return was === null || is === null || was === is
          ? []
          : [{ node: bare(node), before: was, after: is }];
      })
      .sort((a, b) => Math.abs(b.after - b.before) - Math.abs(a.after - a.before)),
  };
}

function bare({ site, channel }: GraphNode): Node {
  return { site, channel };
}

function edgesOf({ nodes, edges }: CircuitGraph): Map<string, EdgeName> {
  const named = edges.source.map((s, e): [string, EdgeName] => {
    const [source, target] = [bare(nodes[s]!), bare(nodes[edges.target[e]!]!)];
    return [`${nameOf(source)} ${nameOf(target)}`, { source, target }];
  });
  return new Map(named);
}

function without(edges: ReadonlyMap<string, EdgeName>, others: ReadonlyMap<string, EdgeName>): EdgeName[] {
  return [...edges].filter(([name]) => !others.has(name)).map(([, edge]) => edge);
}
