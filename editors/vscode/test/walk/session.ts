// One session for all: a real terminal UI, a script, another window, and this one after a reload.

import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { promisify } from "node:util";
import { Terminal } from "./terminal";
import { type Steps, type Surroundings, until, Workbench } from "./workbench";

const run = promisify(execFile);
const SHOWN = "single_double_quote/shipped/34";
const NODE = "0.attn.v[219]";

export const SESSION: Steps = {
  async "the panel and a terminal UI in the session move each other"(bench, around) {
    const terminal = new Terminal([around.circuit, "tui", SHOWN, "--session", "editor"]);
    const moved = async (name: string) =>
      until(
        "the terminal UI's node",
        async () => terminal.selected,
        (now) => now === name,
      );
    try {
      await until("the terminal UI", async () => terminal.selected, Boolean);
      await selectNode(around, NODE);
      await bench.selects(NODE);
      await bench.panel.locator(".node-tab h2", { hasText: NODE }).waitFor();
      await moved(NODE);
      await bench.shot("panel-node");

      terminal.press("g");
      await until("the graph", async () => terminal.screen.includes("graph of"), Boolean);
      let began = performance.now();
      terminal.press("Right");
      const there = await until(
        "another node",
        () => bench.selected(),
        (now) => now !== NODE,
      );
      console.log(`  from the terminal UI to the panel: ${Math.round(performance.now() - began)} ms`);
      await moved(there ?? "");

      await bench.panel.locator(".graph").focus();
      began = performance.now();
      await bench.page.keyboard.press("Home");
      const here = await until(
        "the panel's own node",
        () => bench.selected(),
        (now) => now !== there,
      );
      await moved(here ?? "");
      console.log(`  from the panel to the terminal UI: ${Math.round(performance.now() - began)} ms`);
    } finally {
      terminal.close();
    }
  },

  async "pinned, the panel stays at its circuit while the session goes to another"(bench, around) {
    await bench.button("isPinned").click();
    const other = bench.seen.get("other") ?? "";
    await run(around.circuit, ["sessions", "update", "editor", "--circuit", other, "--node", NODE]);
    await bench.selects(NODE);
    assert.equal(await bench.button("circuit").inputValue(), bench.seen.get("shown"));
    await bench.button("isPinned").click();
    await until(
      "the session's circuit",
      () => bench.button("circuit").inputValue(),
      (now) => now === other,
    );
    await bench.choose("single_double_quote · k 34");
  },

  async "paused, it neither follows the session nor moves it"(bench, around) {
    await bench.button("isPaused").click();
    await selectNode(around, NODE);
    await bench.panel.locator(".graph").focus();
    await bench.page.keyboard.press("End");
    await until(
      "another node",
      () => bench.selected(),
      (now) => now !== NODE && now !== undefined,
    );
    await bench.button("isPaused").click();
    // Had it moved the session, there would be nothing to come back to.
    await bench.selects(NODE);
    assert.equal(await sessionNode(around), NODE);
  },

  async "following the cursor, it marks what is active at the token under it"(bench) {
    await bench.button("follows").click();
    const followed = bench.panel.locator(".followed");
    await bench.word("class", "Door").click();
    await followed.filter({ hasText: "At the cursor, “or”" }).waitFor();
    await bench.word("return", "nobody").click();
    await followed.filter({ hasText: /“ody”: \d+ nodes active/ }).waitFor();
    await bench.shot("panel-follows");
    await bench.button("follows").click();
    await followed.waitFor({ state: "hidden" });
  },

  async "after a reload the panel is as it was left"(bench) {
    await bench.tab("budgets");
    await bench.button("isPinned").click();
    const loaded = bench.page.waitForEvent("load");
    await bench.run("Developer: Reload Window");
    await loaded;
    await bench.panel.locator('[role="tab"][data-name="budgets"][aria-selected="true"]').waitFor();
    await bench.panel.locator('[data-name="isPinned"][aria-pressed="true"]').waitFor();
    assert.equal(await bench.button("circuit").inputValue(), bench.seen.get("shown"));
    await bench.selects(NODE);
    await bench.button("isPinned").click();
    await bench.tab("node");
    await bench.status.filter({ hasText: "csd-py-sparse" }).waitFor();
    await bench.run("Circuits: Heat: Loss");
    await bench.decorated.first().waitFor();
  },

  async "another window in the session moves with this one"(bench, around) {
    const second = new Workbench(await bench.page.context().newPage(), around);
    try {
      await second.open();
      await second.openFile("greet.py");
      await second.status.filter({ hasText: "csd-py-sparse" }).waitFor();
      await second.run("Circuits: Open the Circuit Panel");
      await second.selects(NODE);
      await bench.panel.locator(".graph").focus();
      await bench.page.keyboard.press("End");
      const name = await until(
        "another node",
        () => bench.selected(),
        (now) => now !== NODE,
      );
      await second.selects(name ?? "");
    } finally {
      await second.page.close();
    }
  },
};

/** Select a node for everybody in the session, as a script would. */
export async function selectNode({ circuit }: Surroundings, node: string): Promise<void> {
  await run(circuit, ["sessions", "update", "editor", "--node", node]);
}

export async function sessionNode({ circuit }: Surroundings): Promise<string | undefined> {
  const { stdout } = await run(circuit, ["sessions", "get", "editor", "--json"]);
  const { node } = JSON.parse(stdout) as { node?: { site: string; channel: number } };
  return node && `${node.site}[${node.channel}]`;
}
