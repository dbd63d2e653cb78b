// A fresh VS Code with no setting: trust is asked for, a file is read, and says what was expected.

import assert from "node:assert/strict";
import { readdirSync, readFileSync } from "node:fs";
import * as path from "node:path";
import type { Steps, Surroundings } from "./workbench";

export const BEGIN: Steps = {
  async "in a workspace that is not trusted nothing is started, and the status item says so"(bench, around) {
    await bench.page.locator(".monaco-dialog-box").getByRole("button", { name: /^No/ }).click();
    await bench.openFile("greet.py");
    await bench.status.filter({ hasText: /^\s*Circuits\s*$/ }).waitFor();
    assert.deepEqual(servers(around), []);
    await bench.status.click();
    await bench.entry("Trust this workspace").waitFor();
    await bench.shot("untrusted");
    await bench.page.keyboard.press("Enter");
    await bench.page
      .locator(".workspace-trust-editor")
      .getByRole("button", { name: "Trust", exact: true })
      .click();
    await bench.status.filter({ hasText: "csd-py-sparse" }).waitFor();
    assert.equal(servers(around).length, 1);
  },

  async "a file is opened, and the status item has found the daemon without a setting"(bench) {
    await bench.run("View: Close Editor"); // the page about trust
    await bench.openFile("greet.py");
    await bench.status.filter({ hasText: "csd-py-sparse" }).waitFor();
  },

  async "heat is turned on: tokens are coloured and the legend says by what"(bench) {
    await bench.run("Circuits: Heat: Loss");
    await bench.decorated.first().waitFor();
    await bench.legend.filter({ hasText: /loss 0 … [\d.]+ nats/ }).waitFor();
  },

  async "a hover says what was expected there, with links to act"(bench) {
    await bench.word("return", "nobody").hover();
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
};

/** Language servers that run for this workspace. */
function servers({ circuit }: Surroundings): string[] {
  const numbers = readdirSync("/proc").filter((name) => /^\d+$/.test(name));
  return numbers.filter((pid) => {
    try {
      const words = readFileSync(path.join("/proc", pid, "cmdline"), "utf8").split("\0");
      return words.includes(circuit) && words.includes("lsp");
    } catch {
      return false; // it has ended meanwhile
    }
  });
}
