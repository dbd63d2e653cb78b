// Where nodes lie: in the order of the pass, heads together, nothing over anything else.

import assert from "node:assert/strict";
import { test } from "node:test";
import { BOX_HEIGHT, layOut } from "../../src/panel/layout";
import { circuit } from "./circuits";

const SEEDS = Array.from({ length: 40 }, (_, seed) => seed);

test("no two boxes overlap, and all are inside", () => {
  for (const seed of SEEDS) {
    const graph = circuit(seed, 1 + (seed % 4), 2 + (seed % 9), 10 * seed);
    const { boxes, width, height } = layOut(graph);
    const rows = new Map<number, typeof boxes>();
    for (const box of boxes) {
      rows.set(box.y, [...(rows.get(box.y) ?? []), box]);
      assert.ok(box.x - box.width / 2 > -1e-6 && box.x + box.width / 2 < width + 1e-6, `seed ${seed}: x`);
      assert.ok(box.y >= 0 && box.y + BOX_HEIGHT <= height + 1e-6, `seed ${seed}: y`);
    }
    for (const row of rows.values()) {
      const sorted = [...row].sort((a, b) => a.x - b.x);
      sorted.slice(1).forEach((box, i) => {
        const before = sorted[i]!;
        assert.ok(box.x - box.width / 2 >= before.x + before.width / 2 + 7.999, `seed ${seed}: overlap`);
      });
    }
  }
});

test("edges lead downwards: a rank's sources lie above its targets", () => {
  for (const seed of SEEDS) {
    const graph = circuit(seed, 3, 4, 100);
    const { boxes } = layOut(graph);
    graph.edges.source.forEach((source, e) => {
      const target = graph.edges.target[e]!;
      assert.ok(boxes[source]!.y < boxes[target]!.y, `seed ${seed}: edge ${e}`);
    });
  }
});

test("nodes of a head stand together", () => {
  for (const seed of SEEDS) {
    const graph = circuit(seed, 1, 6, 60);
    const { ranks, boxes } = layOut(graph);
    for (const rank of ranks) {
      const heads = rank.groups.filter((group) => group.head !== null);
      assert.equal(new Set(heads.map((group) => group.head)).size, heads.length);
      for (const group of heads) assert.equal(new Set(group.nodes.map((i) => boxes[i]!.y)).size, 1);
    }
  }
});

test("every node has a place, in circuits of any size", () => {
  for (const graph of [circuit(1, 0), circuit(2, 1, 1, 0), circuit(3, 4, 40, 4000)]) {
    const { boxes, ranks } = layOut(graph);
    assert.equal(boxes.length, graph.nodes.length);
    const placed = ranks.flatMap((rank) => rank.rows.flatMap((row) => row.flatMap((group) => group.nodes)));
    assert.deepEqual(
      placed.sort((a, b) => a - b),
      graph.nodes.map((_, i) => i),
    );
    assert.ok(boxes.every((box) => Number.isFinite(box.x) && Number.isFinite(box.y)));
  }
});
