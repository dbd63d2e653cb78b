// What the extension adds to VS Code is there, and is there in time.

import assert from "node:assert/strict";
import * as vscode from "vscode";
import { connected, extension, heard, type Manifest, openGreeting, type Tests } from "./bench";

/** Commands that always have something to do. */
const ALWAYS = [
  "nextStep",
  "showLog",
  "openSettings",
  "openDocs",
  "openWalkthrough",
  "openPanel",
  "copyReference",
];

export const CONTRIBUTIONS: Tests = {
  async "activation does not wait for the server"(figures) {
    const began = performance.now();
    const { server } = await extension().activate();
    figures.activation_ms = performance.now() - began;
    assert.ok(["starting", "running"].includes(server.link.state), server.link.state);
  },

  async "every command is registered, and none can be run where it cannot do anything"() {
    await connected();
    const known = new Set(await vscode.commands.getCommands(true));
    const { commands } = (extension().packageJSON as Manifest).contributes;
    for (const { command, enablement } of commands) {
      assert.ok(known.has(command), `${command} is not registered`);
      const name = command.replace("circuits.", "");
      assert.equal(enablement === undefined, ALWAYS.includes(name), `${command}: enablement ${enablement}`);
    }
  },

  async "every view has a welcome"() {
    const { views, viewsWelcome } = (extension().packageJSON as Manifest).contributes;
    const welcomed = new Set(viewsWelcome.map((x) => x.view));
    assert.deepEqual(
      views.circuits.map((view) => view.id).filter((id) => !welcomed.has(id)),
      [],
    );
  },

  async "the panel opens beside the text without taking the focus"() {
    await connected();
    const { document } = await openGreeting();
    const isPanel = ({ input }: vscode.Tab) =>
      input instanceof vscode.TabInputWebview && input.viewType.endsWith("circuits.panel");
    const opened = heard(vscode.window.tabGroups.onDidChangeTabs, "a tab", (event) =>
      event.opened.some(isPanel),
    );
    await vscode.commands.executeCommand("circuits.openPanel");
    await opened;
    assert.equal(vscode.window.activeTextEditor?.document, document);
    await vscode.commands.executeCommand("circuits.openPanel");
    const panels = vscode.window.tabGroups.all.flatMap((group) => group.tabs).filter(isPanel);
    assert.equal(panels.length, 1, "a second panel was opened");
    await vscode.window.tabGroups.close(panels);
  },
};
