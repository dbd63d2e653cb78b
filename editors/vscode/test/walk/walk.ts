// The walk of a user through the real VS Code, step by step; each step is a line of the output.

import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { existsSync, readFileSync } from "node:fs";
import * as path from "node:path";
import { promisify } from "node:util";
import { launch, type Surroundings, until, Workbench } from "./workbench";

const run = promisify(execFile);
type Step = (bench: Workbench, around: Surroundings) => Promise<void>;

const STEPS: { readonly [name: string]: Step } = {
  async "a file is opened, and the status item finds the daemon without a setting"(bench) {
    await bench.openFile("greet.py");
    await bench.status.filter({ hasText: "csd-py-sparse" }).waitFor();
  },

  async "heat is turned on: tokens are coloured and the legend says by what"(bench) {
    await bench.run("Circuits: Heat: Loss");
    await bench.decorated.first().waitFor();
    await bench.legend.filter({ hasText: /loss 0 … [\d.]+ nats/ }).waitFor();
  },

  async "a hover says what was expected there, with links to act"(bench) {
    await bench.page
      .locator(".view-line", { hasText: "return" })
      .first()
      .locator("span", { hasText: "nobody" })
      .last()
      .hover();
    const hover = bench.page.locator(".monaco-hover-content", { hasText: "rank" }).first();
    await hover.waitFor();
    await hover.getByText("Explain this prediction").waitFor();
    await bench.shot("hover");
    await bench.page.keyboard.press("Escape");
  },

  async "an edit clears the heat at once, and brings fresh one"(bench) {
    await bench.page.locator(".view-line").first().click();
    await bench.page.keyboard.press("Control+End");
    await bench.page.keyboard.type("x = 1");
    await bench.legend.filter({ hasText: /loss 0 … [\d.]+ nats/ }).waitFor();
    await bench.decorated.first().waitFor();
  },

  async "the panel opens beside the text and shows a circuit"(bench) {
    await bench.run("Circuits: Open the Circuit Panel");
    await bench.panel.locator("header h1").waitFor();
    await choose(bench, "single_double_quote · k 34");
    await bench.panel.locator("header h1", { hasText: "single_double_quote" }).waitFor();
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

  async "who selects a node elsewhere in the session moves the panel"(bench, around) {
    await run(around.circuit, ["sessions", "update", "editor", "--node", "0.attn.v[219]"]);
    await until(
      "the node",
      () => bench.selected(),
      (name) => name === "0.attn.v[219]",
    );
    await bench.panel.locator(".node-tab h2", { hasText: "0.attn.v[219]" }).waitFor();
    await bench.shot("panel-node");
  },

  async "turning the node off measures the circuit without it, and the text's heat changes"(bench) {
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
    const tab = (name: string) => bench.panel.locator(`[role="tab"][data-name="${name}"]`).click();
    await tab("budgets");
    await bench.panel.locator(".masks td.kept").first().waitFor();
    await tab("pruning");
    await bench.panel.locator(".plot .curve").first().waitFor();
    await tab("card");
    await bench.panel.locator(".control").first().waitFor();
    await bench.shot("panel-card");
    await tab("compare");
    await bench.panel.locator('select[data-name="compare"]').selectOption({ index: 1 });
    await bench.panel.locator(".facts", { hasText: "Jaccard" }).waitFor();
    await bench.panel.getByRole("button", { name: "Stop comparing" }).click();
    await tab("node");
  },

  async "the picture is saved as SVG, and the whole as a page that opens without VS Code"(bench, around) {
    const svg = await saved(bench, around, "svg", "svg");
    assert.match(svg, /^<\?xml[\s\S]*<title>0\.attn\.v\[219\]/);
    const html = await saved(bench, around, "page", "html");
    assert.doesNotMatch(html, /<link|src=/);
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

  async "the daemon is killed: it is said, and the next step brings it back"(bench, around) {
    process.kill(around.daemonPid, "SIGKILL");
    await bench.status.filter({ hasText: "no daemon" }).waitFor();
    await bench.panel.locator('[data-name="start"]').click();
    await bench.status.filter({ hasText: "csd-py-sparse" }).waitFor();
    await bench.panel.locator('[data-name="start"]').waitFor({ state: "detached" });
    await bench.decorated.first().waitFor();
    await bench.shot("recovered");
  },
};

async function choose(bench: Workbench, label: string): Promise<void> {
  const select = bench.panel.locator('select[data-name="circuit"]');
  const option = select.locator("option", { hasText: label });
  await select.selectOption((await option.first().getAttribute("value")) ?? "");
}

/** The classes of all decorated tokens, in order: another heat has others. */
async function decoration(bench: Workbench): Promise<string> {
  const classes = await bench.decorated.evaluateAll((found) =>
    found.map((x) => `${x.className}@${(x as HTMLElement).style.left}`),
  );
  return classes.sort().join("\n");
}

async function sessionNode({ circuit }: Surroundings): Promise<string | undefined> {
  const { stdout } = await run(circuit, ["sessions", "get", "editor", "--json"]);
  const { node } = JSON.parse(stdout) as { node?: { site: string; channel: number } };
  return node && `${node.site}[${node.channel}]`;
}

/** Export by the panel's menu, accept the dialog's name, and read what was written. */
async function saved(
  bench: Workbench,
  around: Surroundings,
  kind: string,
  extension: string,
): Promise<string> {
  await bench.panel.locator('select[data-name="export"]').selectOption(kind);
  const input = bench.page.locator(".quick-input-widget input").first();
  const file = path.join(around.folder, `exported.${extension}`);
  await until(
    "the dialog's file",
    () => input.inputValue(),
    (value) => value.endsWith(`.${extension}`),
  );
  await input.fill(file);
  await bench.page.keyboard.press("Enter");
  await until(
    "the file",
    async () => existsSync(file) && readFileSync(file, "utf8").trimEnd().endsWith(">"),
    Boolean,
  );
  return readFileSync(file, "utf8");
}

/** The saved page in a browser that reaches nothing. */
async function openSavedPage(around: Surroundings): Promise<void> {
  const browser = await launch(around.chromium);
  try {
    const context = await browser.newContext({ offline: true, viewport: { width: 1280, height: 800 } });
    const page = await context.newPage();
    const problems: string[] = [];
    page.on("pageerror", (error) => problems.push(error.message));
    page.on("request", (request) => {
      if (!request.url().startsWith("file:")) problems.push(`it asked for ${request.url()}`);
    });
    await page.goto(`file://${path.join(around.folder, "exported.html")}`);
    await page.locator("header h1", { hasText: "single_double_quote" }).waitFor();
    await page.locator(".graph").focus();
    await page.keyboard.press("Home");
    await page.locator(".marker:not([hidden])").waitFor();
    await page.locator('[role="tab"][data-name="budgets"]').click();
    await page.locator(".masks td.kept").first().waitFor();
    await page.screenshot({ path: path.join(around.shots, "saved-page.png") });
    assert.deepEqual(problems, []);
  } finally {
    await browser.close();
  }
}

async function main(): Promise<number> {
  const around = JSON.parse(readFileSync(process.argv[2] ?? "", "utf8")) as Surroundings;
  const browser = await launch(around.chromium);
  const context = await browser.newContext({
    viewport: { width: 1500, height: 900 },
    reducedMotion: "reduce",
  });
  const bench = new Workbench(await context.newPage(), around);
  try {
    await bench.open();
    for (const [name, step] of Object.entries(STEPS)) {
      const began = Date.now();
      try {
        await step(bench, around);
      } catch (error) {
        await bench.shot("failed");
        console.log(`not ok ${name}\n${error instanceof Error ? error.stack : String(error)}`);
        return 1;
      }
      console.log(`ok ${name} (${((Date.now() - began) / 1000).toFixed(1)} s)`);
    }
  } finally {
    await browser.close();
  }
  await openSavedPage(around);
  console.log("ok the saved page opens without VS Code, daemon or network");
  return 0;
}

main().then(
  (status) => process.exit(status),
  (error: unknown) => {
    console.log(error);
    process.exit(1);
  },
);
