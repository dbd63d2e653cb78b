// The panel's pure parts: camera, walking, comparing, what is kept, colours' meaning, files.

import assert from "node:assert/strict";
import { test } from "node:test";
import { fit, panned, reaching, toPicture, toScreen, zoomed } from "../../src/panel/camera";
import { unite } from "../../src/panel/compare";
import { differencesOf } from "../../src/panel/differences";
import { FRESH, readKept } from "../../src/panel/kept";
import { FULL, paintScene } from "../../src/panel/paint";
import { escaped, SvgPen } from "../../src/panel/pen";
import { ticks } from "../../src/panel/plot";
import { nodeWords, sceneOf, shownEdges } from "../../src/panel/scene";
import { isNamed } from "../../src/panel/sessionLink";
import { step } from "../../src/panel/walk";
import { nameOf } from "../../src/shared/nodes";
import { circuit, info, random } from "./circuits";

const VIEW = { width: 800, height: 600 };

function near(a: number, b: number): void {
  assert.ok(Math.abs(a - b) < 1e-6 * Math.max(1, Math.abs(a)), `${a} is not ${b}`);
}

test("what is under the pointer stays there while zooming", () => {
  const next = random(7);
  let camera = fit({ width: 3000, height: 2000 }, VIEW);
  for (let i = 0; i < 200; i++) {
    const at = { x: next() * 800, y: next() * 600 };
    const before = toPicture(camera, at);
    camera = zoomed(camera, at, 0.5 + next());
    const after = toScreen(camera, before);
    near(after.x, at.x);
    near(after.y, at.y);
    camera = panned(camera, next() * 20 - 10, 0);
  }
});

test("a fitted picture is all in view, and not larger than life", () => {
  for (const picture of [
    { width: 100, height: 50 },
    { width: 9000, height: 400 },
    { width: 10, height: 9000 },
  ]) {
    const camera = fit(picture, VIEW);
    const [low, high] = [
      toScreen(camera, { x: 0, y: 0 }),
      toScreen(camera, { x: picture.width, y: picture.height }),
    ];
    assert.ok(low.x >= 0 && low.y >= 0 && high.x <= 800 && high.y <= 600);
    assert.ok(camera.zoom <= 1);
  }
});

test("reaching moves only as far as it takes", () => {
  const camera = { x: 0, y: 0, zoom: 1 };
  assert.equal(reaching(camera, { x: 400, y: 300 }, VIEW), camera);
  const at = toScreen(reaching(camera, { x: 5000, y: -100 }, VIEW), { x: 5000, y: -100 });
  assert.deepEqual(at, { x: 776, y: 24 });
});

test("walking visits every node sideways, and follows the strongest edge downwards", () => {
  const scene = sceneOf(circuit(11, 2, 6, 120));
  const { edges } = scene.graph;
  const go = (how: "right" | "down" | "up" | "first" | "last", from: number | null) =>
    step(how, from, scene.layout, edges, scene.joined, () => true);
  const seen = new Set<number>();
  for (let at = go("first", null); at !== null && !seen.has(at); at = go("right", at)) seen.add(at);
  assert.equal(seen.size, scene.graph.nodes.length);
  scene.joined.out.forEach((out, i) => {
    const [strongest] = out;
    if (strongest === undefined) return;
    assert.equal(go("down", i), edges.target[strongest]);
    const sizes = out.map((e) => Math.abs(edges.delta![e]!));
    assert.deepEqual(
      sizes,
      [...sizes].sort((a, b) => b - a),
    );
  });
});

test("a step that leads nowhere stays", () => {
  const scene = sceneOf(circuit(5, 1, 3, 0));
  const last = step("last", null, scene.layout, scene.graph.edges, scene.joined, () => true)!;
  assert.equal(
    step("right", last, scene.layout, scene.graph.edges, scene.joined, () => true),
    last,
  );
  assert.equal(
    step("down", last, scene.layout, scene.graph.edges, scene.joined, () => true),
    last,
  );
  const empty = sceneOf(circuit(5, 0));
  assert.equal(
    step("first", null, empty.layout, empty.graph.edges, empty.joined, () => true),
    null,
  );
});

test("two circuits over each other have the nodes and edges of either, each once", () => {
  for (let seed = 0; seed < 20; seed++) {
    const [before, after] = [circuit(seed, 2, 4, 50), circuit(seed + 100, 2, 4, 50)];
    const both = unite(before, after);
    const names = both.graph.nodes.map(nameOf);
    const [a, b] = [new Set(before.nodes.map(nameOf)), new Set(after.nodes.map(nameOf))];
    assert.deepEqual(new Set(names), new Set([...a, ...b]));
    assert.equal(new Set(names).size, names.length);
    names.forEach((name, i) => {
      const owner = a.has(name) ? (b.has(name) ? "both" : "before") : "after";
      assert.equal(both.nodes[i], owner);
    });
    const edgesOf = (graph: typeof before) =>
      graph.edges.source.map(
        (s, e) => `${nameOf(graph.nodes[s]!)} ${nameOf(graph.nodes[graph.edges.target[e]!]!)}`,
      );
    assert.deepEqual(new Set(edgesOf(both.graph)), new Set([...edgesOf(before), ...edgesOf(after)]));
    assert.equal(both.edges.length, both.graph.edges.source.length);
  }
});

test("what differs is told of either side, and each side's gain is the other's loss", () => {
  for (let seed = 0; seed < 20; seed++) {
    const [before, after] = [circuit(seed, 2, 4, 50), circuit(seed + 100, 2, 4, 50)];
    const [there, back] = [differencesOf(before, after), differencesOf(after, before)];
    assert.deepEqual(there.added.map(nameOf).sort(), back.removed.map(nameOf).sort());
    assert.deepEqual(there.removedEdges.length, back.addedEdges.length);
    assert.equal(there.added.length + there.shared.length, after.nodes.length);
    assert.equal(there.removed.length + there.shared.length, before.nodes.length);
    near(there.jaccard, there.shared.length / (before.nodes.length + there.added.length));
    assert.ok(there.changes.length > 0);
    const sizes = there.changes.map((change) => Math.abs(change.after - change.before));
    assert.deepEqual(
      sizes,
      [...sizes].sort((a, b) => b - a),
    );
  }
  const same = differencesOf(circuit(1), circuit(1));
  assert.deepEqual([same.jaccard, same.changes, same.addedEdges, same.lossChange], [1, [], [], 0]);
  const unmeasured = differencesOf(circuit(1), { ...circuit(2), hasEdges: false });
  assert.deepEqual([unmeasured.edgesKnown, unmeasured.addedEdges], [false, []]);
});

test("a session names a circuit by its id, or as people do", () => {
  const shown = info({ id: "4bc4", task: "quotes", sweep: "shipped", label: "34" });
  assert.ok(isNamed("4bc4", shown) && isNamed("quotes/shipped/34", shown));
  assert.ok(!isNamed("quotes/shipped/39", shown) && !isNamed("4bc", shown));
});

test("a circuit over itself is itself", () => {
  const graph = circuit(3);
  const both = unite(graph, graph);
  assert.deepEqual(both.graph.nodes.map(nameOf).sort(), graph.nodes.map(nameOf).sort());
  assert.ok(both.nodes.every((owner) => owner === "both") && both.edges.every((owner) => owner === "both"));
});

test("what an older panel kept is read with care", () => {
  assert.deepEqual(readKept(undefined), FRESH);
  assert.deepEqual(readKept("nonsense"), FRESH);
  const odd = {
    circuit: 7,
    tab: "plots",
    isPinned: "yes",
    edgesShown: Number.NaN,
    camera: { x: 1, y: 2, zoom: 0 },
  };
  assert.deepEqual(readKept(odd), FRESH);
  const kept = {
    ...FRESH,
    circuit: "abc",
    tab: "card" as const,
    isPinned: true,
    camera: { x: 1, y: 2, zoom: 3 },
  };
  assert.deepEqual(readKept(JSON.parse(JSON.stringify(kept))), kept);
});

test("the strongest edges are shown first", () => {
  const scene = sceneOf(circuit(9, 2, 6, 100));
  const size = (e: number) => Math.abs(scene.graph.edges.delta![e]!);
  const shown = shownEdges(scene, 10);
  assert.equal(shown.size, 10);
  const weakest = Math.min(...[...shown].map(size));
  scene.graph.edges.source.forEach((_, e) => {
    assert.ok(shown.has(e) || size(e) <= weakest);
  });
});

test("an SVG file has a box for every node, and its text is escaped", () => {
  const graph = circuit(4);
  const scene = sceneOf(graph);
  const pen = new SvgPen();
  const grey = () => "rgb(1,2,3)";
  const palette = {
    background: "#fff",
    text: "#000",
    faint: "#888",
    line: "#ccc",
    box: "#eee",
    focus: "#00f",
    before: "#f0f",
    after: "#0f0",
    fill: grey,
    letters: grey,
    stroke: grey,
    isHighContrast: false,
    fontFamily: "monospace",
  };
  paintScene(
    pen,
    scene,
    { edges: shownEdges(scene, 1000), showsCarried: true, dropped: new Set([0]) },
    palette,
    FULL,
  );
  const titles = [...pen.elements.matchAll(/<title>([^<]*)<\/title>/g)].map((match) => match[1]);
  assert.deepEqual(
    titles,
    graph.nodes.map((node, i) => `${nodeWords(node)}${i === 0 ? ", off" : ""}`),
  );
  assert.equal(escaped('a<b> & "c"\u0000\ud800'), "a&lt;b&gt; &amp; &quot;c&quot;\ufffd\ufffd");
});

test("axes have round numbers between their ends", () => {
  for (const [low, high] of [
    [0, 1],
    [0, 0.0371],
    [34, 39],
    [-3, 1200],
  ] as const) {
    const found = ticks(low, high);
    assert.ok(found.length >= 2 && found.length <= 7, `${low} to ${high}: ${found}`);
    assert.ok(found.every((x) => x >= low - 1e-9 && x <= high + 1e-6 * high));
  }
});
