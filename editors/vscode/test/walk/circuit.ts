// A circuit in the panel: looked at, taken apart, compared, taken away.

import assert from "node:assert/strict";
import { existsSync, readFileSync } from "node:fs";
import * as path from "node:path";
import { selectNode, sessionNode } from "./session";
import { type Steps, type Surroundings, until, type Workbench } from "./workbench";

const PNG_BEGIN = Buffer.from("89504e470d0a1a0a", "hex");
const PNG_END = Buffer.from("49454e44ae426082", "hex");

export const CIRCUIT: Steps = {
  async "the panel opens beside the text and shows a circuit"(bench) {
    await bench.run("Circuits: Open the Circuit Panel");
    await bench.panel.locator("header h1").waitFor();
    await bench.choose("single_double_quote · k 34");
    await bench.panel.locator("header h1", { hasText: "single_double_quote" }).waitFor();
    bench.seen.set("shown", await bench.button("circuit").inputValue());
    await bench.shot("panel-opened");
  },

  async "a click on a node selects it, here and in the session"(bench, around) {
    const graph = bench.panel.locator(".graph");
    await graph.focus();
    await bench.page.keyboard.press("End");
    const marker = bench.panel.locator(".marker:not([hidden])");
    await marker.waitFor();
    const wanted = await bench.selected();
    const box = await marker.boundingBox();
    assert.ok(box);
    await bench.page.keyboard.press("Home");
    await until(
      "another node",
      () => bench.selected(),
      (name) => name !== wanted,
    );
    await bench.page.mouse.click(box.x + box.width / 2, box.y + box.height / 2);
    await until(
      "the clicked node",
      () => bench.selected(),
      (name) => name === wanted,
    );
    await bench.panel.locator(".tokens").first().waitFor();
    await until(
      "the session's node",
      () => sessionNode(around),
      (name) => name === wanted,
    );
  },

  async "a code action explains a prediction, and a node that carries it is chosen for all"(bench, around) {
    await bench.word("return", "nobody").click();
    await bench.actions("Explain");
    await bench.page.keyboard.press("Enter");
    const first = bench.page.locator(".quick-input-list .monaco-list-row").first();
    await first.filter({ hasText: "nats without it" }).waitFor();
    await bench.shot("explain");
    const name = /\S+\[\d+\]/.exec((await first.textContent()) ?? "")?.[0] ?? "";
    await bench.page.keyboard.press("Enter");
    await bench.selects(name);
    await until(
      "the session's node",
      () => sessionNode(around),
      (now) => now === name,
    );
  },

  async "turning the node off measures the circuit without it, and the text's heat changes"(bench, around) {
    await selectNode(around, "0.attn.v[219]");
    await bench.selects("0.attn.v[219]");
    const before = await decoration(bench);
    await bench.panel.locator(".graph").focus();
    await bench.page.keyboard.press("x");
    await bench.panel
      .locator('[data-name="effect"]', { hasText: /1 node off.*loss 0\.\d+ → \d\.\d+ \(\+0\.\d+\)/s })
      .waitFor();
    await bench.legend.filter({ hasText: "1 intervention" }).waitFor();
    await until(
      "other decorations",
      () => decoration(bench),
      (now) => now !== before && now !== "",
    );
    await bench.shot("panel-node-off");
    await bench.panel.locator('[data-name="reset"]').click();
    await bench.panel.locator('[data-name="effect"]').waitFor({ state: "detached" });
    await until(
      "the decorations of before",
      () => decoration(bench),
      (now) => now === before,
    );
  },

  async "the other tabs show budgets, pruning, verification and another circuit"(bench) {
    await bench.tab("budgets");
    await bench.panel.locator(".masks td.kept").first().waitFor();
    await bench.shot("panel-budgets");
    await bench.tab("pruning");
    await bench.panel.locator(".plot .curve").first().waitFor();
    await bench.tab("card");
    await bench.panel.locator(".control").first().waitFor();
    await bench.shot("panel-card");
    await bench.tab("compare");
    const select = bench.panel.locator('select[data-name="compare"]');
    const other = select.locator("option", { hasText: "single_double_quote" }).first();
    await select.selectOption((await other.getAttribute("value")) ?? "");
    const facts = bench.panel.locator(".facts", { hasText: "Jaccard" });
    await facts.waitFor();
    bench.seen.set("other", await select.inputValue());
    bench.seen.set("facts", (await facts.textContent()) ?? "");
    await bench.shot("panel-compare");
    await bench.panel.getByRole("button", { name: "Stop comparing" }).click();
    await bench.tab("node");
  },

  async "it is saved as SVG, PNG, JSON, and as a page that opens without VS Code"(bench, around) {
    const svg = await saved(bench, around, "svg", "svg", isElement);
    assert.match(svg.toString(), /^<\?xml[\s\S]*<title>0\.attn\.v\[219\]/);
    const png = await saved(bench, around, "png", "png", (bytes) => bytes.subarray(-8).equals(PNG_END));
    assert.ok(png.subarray(0, 8).equals(PNG_BEGIN));
    const [width, height] = [png.readUInt32BE(16), png.readUInt32BE(20)];
    assert.ok(width > 600 && height > 600 && width <= 8192 && height <= 8192, `${width} x ${height}`);
    const json = await saved(bench, around, "json", "json", (bytes) =>
      bytes.toString().trimEnd().endsWith("}"),
    );
    assert.match(JSON.stringify(JSON.parse(json.toString())), /single_double_quote/);
    const html = await saved(bench, around, "page", "html", isElement);
    assert.doesNotMatch(html.toString(), /<link|src=/);
  },

  async "light, dark and high contrast"(bench) {
    for (const [name, className, shot] of [
      ["Default Light Modern", "vs", "light"],
      ["Default High Contrast", "hc-black", "high-contrast"],
      ["Default Dark Modern", "vs-dark", "dark"],
    ] as const) {
      await bench.theme(name, className);
      await bench.decorated.first().waitFor();
      await bench.shot(shot);
    }
  },
};

function isElement(bytes: Buffer): boolean {
  return bytes.toString().trimEnd().endsWith(">");
}

/** The classes of all decorated tokens, in order: another heat has others. */
async function decoration(bench: Workbench): Promise<string> {
  const classes = await bench.decorated.evaluateAll((found) =>
    found.map((x) => `${x.className}@${(x as HTMLElement).style.left}`),
  );
  return classes.sort().join("\n");
}

/** Export by the panel's menu, name the file, and read it once it is whole. */
async function saved(
  bench: Workbench,
  around: Surroundings,
  kind: string,
  extension: string,
  isWhole: (bytes: Buffer) => boolean,
): Promise<Buffer> {
  await bench.button("export").selectOption(kind);
  const file = path.join(around.folder, `exported.${extension}`);
  await until(
    "the dialog's file",
    () => bench.input.inputValue(),
    (value) => value.endsWith(`.${extension}`),
  );
  await bench.enter(file);
  await until("the file", async () => existsSync(file) && isWhole(readFileSync(file)), Boolean);
  return readFileSync(file);
}
