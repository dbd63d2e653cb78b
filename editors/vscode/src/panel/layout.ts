// Where the nodes of a circuit lie: ranks from top to bottom in the order of the pass.
//
// Layered drawing in its classical three steps, as in the command line's pictures. Ranks are given
// by the sites; q, k and v share one and stay together by head. Within a rank, groups are ordered by
// the barycentre of their neighbours, sweeping down and up. Then each row is placed by least
// squares: as near to the neighbours as order and widths allow (isotonic regression). A rank wider
// than the page is dealt out to several rows.

import type { CircuitGraph, GraphNode } from "../protocol.generated";

/** Node boxes and the room between them, in pixels at zoom 1. */
export const BOX_HEIGHT = 30;
const GAP = 8;
const GROUP_GAP = 18;
const ROW_GAP = 26;
const RANK_GAP = 44;
const BLOCK_GAP = 62;
/** How wide a row may be, where the view says nothing else. */
const ROW_WIDTH = 1120;
const CHAR_WIDTH = 7;
const SWEEPS = 12;
/** How much a carried residual channel pulls, beside an edge. */
const CARRIED_PULL = 0.4;
const ALONE_PULL = 1e-3;

/** A node's place: the middle of its top edge. */
export interface Box {
  x: number;
  y: number;
  readonly width: number;
  readonly text: string;
}

/** Nodes that stay together: those of one head, or a single one. */
export interface Group {
  readonly nodes: number[];
  readonly head: number | null;
}

/** One row of the pass; `block` is its layer and half block in words. */
export interface Rank {
  readonly name: string;
  readonly layer: number | null;
  readonly half: string;
  groups: Group[];
  rows: Group[][];
  top: number;
  bottom: number;
}

export interface Layout {
  readonly boxes: readonly Box[];
  readonly ranks: readonly Rank[];
  readonly width: number;
  readonly height: number;
}

type Graph = Pick<CircuitGraph, "nodes" | "edges" | "carried">;
/** Neighbours of each node with their pulls, flat: entries `start[i]` to `start[i + 1]` are i's. */
interface Pulls {
  readonly start: Int32Array;
  readonly node: Int32Array;
  readonly pull: Float64Array;
}

/** Places for all nodes; x from 0 to `width`, y from 0 to `height`. Rows wider than `rowWidthMin` may be broken. */
export function layOut(graph: Graph, rowWidthMin = ROW_WIDTH): Layout {
  const boxes = graph.nodes.map(boxOf);
  const ranks = ranksOf(graph.nodes);
  const pulls = pullsOf(graph);
  order(ranks, pulls, boxes.length);
  const rowWidth = widestRow(boxes, rowWidthMin);
  for (const rank of ranks) rank.rows = rowsOf(rank, boxes, rowWidth);
  place(ranks, boxes, pulls);
  const left = Math.min(...ends(boxes, -1), Infinity);
  for (const box of boxes) box.x -= Number.isFinite(left) ? left : 0;
  const height = stack(ranks, boxes);
  return { boxes, ranks, width: Math.max(0, ...ends(boxes, 1)), height };
}

/** What stands in a node's box. */
export function boxText(node: GraphNode): string {
  const letter = node.head === null && !isHeads(node.kind) ? "" : node.kind.slice(-1);
  return `${letter}${node.head === null ? node.channel : node.within}`;
}

/** A delta in few characters, with its sign; no minus before zero. */
export function deltaText(delta: number | null): string {
  if (delta === null) return "";
  const text = delta.toFixed(3);
  return Number(text) === 0 ? "+0.000" : delta > 0 ? `+${text}` : text.replace("-", "−");
}

function isHeads(kind: string): boolean {
  return kind === "attn.q" || kind === "attn.k" || kind === "attn.v";
}

function boxOf(node: GraphNode): Box {
  const text = boxText(node);
  const characters = Math.max(text.length, 0.85 * deltaText(node.delta).length, 2);
  return { x: 0, y: 0, width: 10 + CHAR_WIDTH * characters, text };
}

function ends(boxes: readonly Box[], side: -1 | 1): number[] {
  return boxes.map((box) => box.x + (side * box.width) / 2);
}

function ranksOf(nodes: readonly GraphNode[]): Rank[] {
  const ranks = new Map<string, Rank>();
  const heads = new Map<string, Group>();
  nodes.forEach((node, i) => {
    const name = isHeads(node.kind) ? "heads" : node.kind.slice(node.kind.lastIndexOf(".") + 1);
    const key = `${node.layer} ${node.half} ${name}`;
    let rank = ranks.get(key);
    if (rank === undefined) {
      rank = { name, layer: node.layer, half: node.half, groups: [], rows: [], top: 0, bottom: 0 };
      ranks.set(key, rank);
    }
    const group = node.head === null ? undefined : heads.get(`${key} ${node.head}`);
    if (group !== undefined) {
      group.nodes.push(i);
      return;
    }
    const made: Group = { nodes: [i], head: node.head };
    rank.groups.push(made);
    if (node.head !== null) heads.set(`${key} ${node.head}`, made);
  });
  return [...ranks.values()];
}

function pullsOf(graph: Graph): Pulls {
  const joined: [number, number, number][] = [];
  graph.edges.source.forEach((a, i) => {
    joined.push([a, graph.edges.target[i] ?? a, 1]);
  });
  graph.carried.source.forEach((a, i) => {
    joined.push([a, graph.carried.target[i] ?? a, CARRIED_PULL]);
  });
  const start = new Int32Array(graph.nodes.length + 1);
  for (const [a, b] of joined) {
    start[a + 1]! += 1;
    start[b + 1]! += 1;
  }
  for (let i = 1; i < start.length; i++) start[i]! += start[i - 1]!;
  const fill = start.slice();
  const node = new Int32Array(2 * joined.length);
  const pull = new Float64Array(2 * joined.length);
  const add = (a: number, b: number, strength: number) => {
    const at = fill[a]!++;
    node[at] = b;
    pull[at] = strength;
  };
  for (const [a, b, strength] of joined) {
    add(a, b, strength);
    add(b, a, strength);
  }
  return { start, node, pull };
}

/** Sort each rank's groups by barycentre, down and up; the shortest order seen is kept. */
function order(ranks: readonly Rank[], pulls: Pulls, n: number): void {
  const at = new Float64Array(n);
  const rankOf = new Int32Array(n);
  const settle = (rank: Rank) => {
    const nodes = rank.groups.flatMap((group) => group.nodes);
    nodes.forEach((i, place) => {
      at[i] = (place + 0.5) / nodes.length;
    });
  };
  ranks.forEach((rank, number) => {
    settle(rank);
    for (const group of rank.groups) for (const i of group.nodes) rankOf[i] = number;
  });
  const barycentre = (group: Group, side: number): number => {
    let total = 0;
    let sum = 0;
    let own = 0;
    for (const i of group.nodes) {
      own += at[i]!;
      for (let e = pulls.start[i]!; e < pulls.start[i + 1]!; e++) {
        const j = pulls.node[e]!;
        if ((rankOf[j]! - rankOf[i]!) * side <= 0) continue;
        sum += at[j]! * pulls.pull[e]!;
        total += pulls.pull[e]!;
      }
    }
    return total > 0 ? sum / total : own / group.nodes.length;
  };
  const length = (): number => {
    let sum = 0;
    for (let i = 0; i < n; i++) {
      for (let e = pulls.start[i]!; e < pulls.start[i + 1]!; e++) {
        sum += pulls.pull[e]! * Math.abs(at[i]! - at[pulls.node[e]!]!);
      }
    }
    return sum;
  };
  let best = ranks.map((rank) => [...rank.groups]);
  let shortest = length();
  for (let sweep = 0; sweep < SWEEPS; sweep++) {
    const side = sweep % 2 === 0 ? -1 : 1;
    for (const rank of side < 0 ? ranks : [...ranks].reverse()) {
      const keys = new Map(rank.groups.map((group) => [group, barycentre(group, side)]));
      rank.groups.sort((a, b) => keys.get(a)! - keys.get(b)!);
      settle(rank);
    }
    const now = length();
    if (now < shortest) {
      best = ranks.map((rank) => [...rank.groups]);
      shortest = now;
    }
  }
  ranks.forEach((rank, i) => {
    rank.groups = best[i]!;
  });
}

/** A large circuit gets a wider page, so that it is not a ribbon. */
function widestRow(boxes: readonly Box[], least: number): number {
  const total = boxes.reduce((sum, box) => sum + box.width + GROUP_GAP, 0);
  return Math.max(least, 1.4 * Math.sqrt(total * (BOX_HEIGHT + RANK_GAP)));
}

/** Dealt in turn, not cut: so each row reaches over the whole width, and edges stay short. */
function rowsOf(rank: Rank, boxes: readonly Box[], widest: number): Group[][] {
  const total = rank.groups.reduce((sum, group) => sum + groupWidth(group, boxes) + GROUP_GAP, 0);
  const n = Math.max(1, Math.ceil(total / widest));
  const rows: Group[][] = Array.from({ length: n }, () => []);
  rank.groups.forEach((group, i) => {
    rows[i % n]!.push(group);
  });
  return rows.filter((row) => row.length > 0);
}

function groupWidth(group: Group, boxes: readonly Box[]): number {
  return group.nodes.reduce((sum, i) => sum + boxes[i]!.width + GAP, -GAP);
}

/** Give every box its x: near its neighbours, in order, nothing overlapping. */
function place(ranks: readonly Rank[], boxes: readonly Box[], pulls: Pulls): void {
  const rows = ranks.flatMap((rank) => rank.rows);
  for (const row of rows) spread(row, boxes, () => [0, 1]);
  for (let sweep = 0; sweep < SWEEPS; sweep++) {
    const middle = boxes.reduce((sum, box) => sum + box.x, 0) / Math.max(1, boxes.length);
    const wanted = (i: number): [number, number] => {
      let total = 0;
      let near = 0;
      for (let e = pulls.start[i]!; e < pulls.start[i + 1]!; e++) {
        total += pulls.pull[e]!;
        near += pulls.pull[e]! * boxes[pulls.node[e]!]!.x;
      }
      // What has no neighbours takes whatever room is near the middle.
      return total > 0 ? [near / total, total] : [middle, ALONE_PULL];
    };
    for (const row of sweep % 2 === 0 ? rows : [...rows].reverse()) spread(row, boxes, wanted);
  }
}

/** Each x as near to `wanted` (x, pull) as order and gaps allow: pooling adjacent violators. */
function spread(row: readonly Group[], boxes: readonly Box[], wanted: (i: number) => [number, number]): void {
  // Once the offsets are taken away, "in order and not overlapping" is "not falling".
  const pools: { value: number; pull: number; members: [Box, number][] }[] = [];
  let edge = 0;
  for (const group of row) {
    for (const i of group.nodes) {
      const box = boxes[i]!;
      const offset = edge + box.width / 2;
      edge += box.width + GAP;
      const [x, pull] = wanted(i);
      pools.push({ value: x - offset, pull, members: [[box, offset]] });
      for (;;) {
        const b = pools.at(-1);
        const a = pools.at(-2);
        if (a === undefined || b === undefined || a.value <= b.value) break;
        a.value = (a.value * a.pull + b.value * b.pull) / (a.pull + b.pull);
        a.pull += b.pull;
        a.members.push(...b.members);
        pools.pop();
      }
    }
    if (group.head !== null) edge += GROUP_GAP - GAP;
  }
  for (const pool of pools) for (const [box, offset] of pool.members) box.x = pool.value + offset;
}

/** Give every row its y; the whole height. */
function stack(ranks: readonly Rank[], boxes: readonly Box[]): number {
  let y = 0;
  let before: Rank | undefined;
  for (const rank of ranks) {
    if (before !== undefined) {
      const same = before.layer === rank.layer && before.half === rank.half;
      y += same ? RANK_GAP : BLOCK_GAP;
    }
    before = rank;
    rank.top = y;
    rank.rows.forEach((row, r) => {
      if (r > 0) y += ROW_GAP;
      for (const group of row) for (const i of group.nodes) boxes[i]!.y = y;
      y += BOX_HEIGHT;
    });
    rank.bottom = y;
  }
  return y;
}
