// The walk of a user through the real VS Code, step by step; each step is a line of the output.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import * as path from "node:path";
import { BEGIN } from "./begin";
import { CIRCUIT } from "./circuit";
import { SESSION } from "./session";
import { TROUBLE } from "./trouble";
import { launch, type Surroundings, Workbench } from "./workbench";

const STEPS = { ...BEGIN, ...CIRCUIT, ...SESSION, ...TROUBLE };

/** The saved page in a browser that reaches nothing. */
async function openSavedPage(around: Surroundings, seen: ReadonlyMap<string, string>): Promise<void> {
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
    await page.locator('[role="tab"][data-name="compare"]').click();
    await page
      .locator('[data-name="compare"]')
      .and(page.locator("select"))
      .selectOption(seen.get("other") ?? "");
    const facts = await page.locator(".facts", { hasText: "Jaccard" }).textContent();
    assert.equal(facts, seen.get("facts"), "the page and the daemon compare differently");
    await page.screenshot({ path: path.join(around.shots, "saved-page-compare.png") });
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
  await openSavedPage(around, bench.seen);
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
