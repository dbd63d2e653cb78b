// What crosses a border is what was declared, or is refused with the place where it is not.

import assert from "node:assert/strict";
import { test } from "node:test";
import { BORDER, readFromExtension, readFromPanel, readParams, readResult } from "../../src/shared/contract";
import { readStruct, ShapeError, type Structs } from "../../src/shared/shape";

const STRUCTS = {
  Leaf: { name: { type: "string" }, size: { type: { any: ["number", "null"] } } },
  Tree: {
    leaves: { type: { list: { struct: "Leaf" } } },
    at: { type: { tuple: ["number", "number"] } },
    kind: { type: { any: [{ literal: "oak" }, { literal: "elm" }] } },
    best: { type: { any: [{ struct: "Leaf" }, "null"] } },
    note: { type: "string", optional: true },
  },
} as const satisfies Structs;

const TREE = { leaves: [{ name: "a", size: 1 }], at: [0, 1], kind: "oak", best: null };

function refusal(value: unknown): string {
  try {
    readStruct(STRUCTS, "Tree", value);
  } catch (error) {
    assert.ok(error instanceof ShapeError);
    return error.message;
  }
  return assert.fail("it was accepted");
}

test("a value of the declared shape is passed through, fields of the future included", () => {
  const value = { ...TREE, somethingNew: 1 };
  assert.equal(readStruct(STRUCTS, "Tree", value), value);
  readStruct(STRUCTS, "Tree", { ...TREE, note: "tall", best: { name: "b", size: null } });
});

test("a refusal names the place, what was due and what was found", () => {
  assert.equal(
    refusal({ ...TREE, leaves: [{ name: 3, size: 1 }] }),
    "Tree.leaves[0].name: a string was due, found 3",
  );
  assert.equal(refusal({ ...TREE, kind: "ash" }), 'Tree.kind: "oak" or "elm" was due, found "ash"');
  assert.equal(refusal({ ...TREE, at: [1] }), "Tree.at: a list of 2 was due, found [1]");
  assert.equal(refusal({ ...TREE, leaves: undefined }), "Tree.leaves: a list was due, found nothing");
  assert.match(refusal(null), /^Tree: a Tree was due, found null/);
});

test("of a struct or nothing, the refusal says what is wrong inside the struct", () => {
  assert.equal(
    refusal({ ...TREE, best: { name: "b", size: "big" } }),
    'Tree.best.size: number or null was due, found "big"',
  );
});

test("numbers are finite", () => {
  for (const size of [Number.NaN, Number.POSITIVE_INFINITY]) {
    assert.match(refusal({ ...TREE, leaves: [{ name: "a", size }] }), /leaves\[0\]\.size/);
  }
});

test("the panel can ask only what is in the contract", () => {
  const asked = { kind: "ask", id: 1, method: "circuit/circuits/show", params: {} };
  assert.equal(readFromPanel(asked), asked);
  for (const method of ["circuit/daemon/stop", "circuit/models/unload", "toString", "__proto__"]) {
    assert.throws(() => readFromPanel({ ...asked, method }), ShapeError);
  }
  for (const message of [
    null,
    "ask",
    {},
    { kind: "answer", id: 1 },
    { kind: "constructor" },
    { kind: "ask", id: "1" },
  ]) {
    assert.throws(() => readFromPanel(message), ShapeError);
  }
});

test("the panel can run only the commands that it needs", () => {
  assert.throws(
    () => readParams("panel/run", { command: "workbench.action.terminal.sendSequence" }),
    ShapeError,
  );
  assert.deepEqual(readParams("panel/run", { command: "circuits.startDaemon" }), {
    command: "circuits.startDaemon",
  });
});

test("answers are checked, too", () => {
  assert.throws(
    () => readResult("circuit/circuits/list", { circuits: [{ id: 1 }] }),
    /CircuitList\.circuits\[0\]\.id/,
  );
  assert.throws(() => readFromExtension({ kind: "news", event: "weather", data: {} }), ShapeError);
});

test("every struct that is named is declared", () => {
  const named = JSON.stringify(BORDER).matchAll(/"struct":"(\w+)"/g);
  for (const [, name] of named) assert.ok(name !== undefined && name in BORDER, name);
});
