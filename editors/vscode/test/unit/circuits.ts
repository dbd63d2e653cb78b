// Circuits for tests: made from a seed, of any size, with the structure of real ones.

import type { CircuitGraph, CircuitInfo, GraphNode } from "../../src/protocol.generated";

/** Pseudo-random numbers from 0 to 1 (mulberry32). */
export function random(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = state;
    t = Math.imul(t ^ (t >>> 15), t | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
  };
}

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
const WEIGHTS = [
  ["attn.act_in", "attn.q"],
  ["attn.act_in", "attn.k"],
  ["attn.act_in", "attn.v"],
  ["attn.v", "attn.resid_delta"],
  ["mlp.act_in", "mlp.post_act"],
  ["mlp.post_act", "mlp.resid_delta"],
] as const;
const D_HEAD = 4;

export function info(fields: Partial<CircuitInfo> = {}): CircuitInfo {
  return {
    id: "0123456789abcdef",
    model: "tiny",
    task: "quotes",
    sweep: "found",
    label: "10",
    ablation: "mean",
    origin: "learned",
    k: 10,
    nEdges: 9,
    loss: 0.1,
    accuracy: 0.98,
    heldOutLoss: 0.15,
    modelLoss: 0.02,
    modelAccuracy: 1,
    verdict: null,
    seed: 0,
    targetLoss: 0.15,
    createdAtS: 0,
    readOnly: false,
    broken: null,
    ...fields,
  };
}

/** A circuit of `nLayers` layers with about `perSite` nodes at each site and `nEdges` edges. */
export function circuit(seed: number, nLayers = 2, perSite = 5, nEdges = 40): CircuitGraph {
  const next = random(seed);
  const nodes: GraphNode[] = [];
  const at = new Map<string, number[]>();
  for (let layer = 0; layer < nLayers; layer++) {
    for (const kind of KINDS) {
      const site = `${layer}.${kind}`;
      at.set(site, []);
      for (let channel = 0; channel < 2 * perSite; channel++) {
        if (next() < 0.5) continue;
        const isHead = /attn\.[qkv]$/.test(kind);
        at.get(site)?.push(nodes.length);
        nodes.push({
          site,
          channel,
          layer,
          half: kind.slice(0, kind.indexOf(".")),
          kind,
          head: isHead ? Math.floor(channel / D_HEAD) : null,
          within: isHead ? channel % D_HEAD : channel,
          label: String(channel),
          delta: next() - 0.3,
        });
      }
    }
  }
  const edges = new Map<string, [number, number]>();
  for (let i = 0; i < nEdges && nLayers > 0; i++) {
    const layer = Math.floor(next() * nLayers);
    const [from, to] = WEIGHTS[Math.floor(next() * WEIGHTS.length)]!;
    const [sources, targets] = [at.get(`${layer}.${from}`)!, at.get(`${layer}.${to}`)!];
    if (sources.length === 0 || targets.length === 0) continue;
    const [a, b] = [
      sources[Math.floor(next() * sources.length)]!,
      targets[Math.floor(next() * targets.length)]!,
    ];
    edges.set(`${a} ${b}`, [a, b]);
  }
  const ends = [...edges.values()];
  return {
    info: info({ k: nodes.length, nEdges: ends.length }),
    dHead: D_HEAD,
    nodes,
    edges: {
      source: ends.map(([a]) => a),
      target: ends.map(([, b]) => b),
      weight: ends.map(() => next() - 0.5),
      delta: ends.map(() => next() - 0.5),
    },
    carried: { source: [], target: [] },
    halfBlocks: [{ layer: 0, half: "attn", nNodes: 3, delta: 0.5 }],
    hasEdges: true,
    curve: [],
    settings: "",
    card: null,
    siblings: [],
  };
}
