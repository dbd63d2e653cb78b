// Heat on documents: of the version that is there, of what the model reads, in every folder.

import assert from "node:assert/strict";
import * as vscode from "vscode";
import { tokensByShade } from "../../src/extension/heatPlan";
import { connected, freshHeat, heard, openFile, openGreeting, serverProcesses, type Tests } from "./bench";

export const TEXT: Tests = {
  async "heat is of the version that is there, gone at an edit, and comes back"() {
    const api = await connected();
    const editor = await openGreeting();
    const { document } = editor;
    const first = freshHeat(api, document);
    await vscode.commands.executeCommand("circuits.heatLoss");
    const heat = await first;
    assert.ok(heat.tokens.length > 20 && tokensByShade(heat.tokens).size > 0);
    assert.equal(heat.choice.of, "loss");
    for (const { range } of heat.tokens) {
      const found = new vscode.Range(
        range.start.line,
        range.start.character,
        range.end.line,
        range.end.character,
      );
      assert.ok(document.validateRange(found).isEqual(found), "a token lies outside the text");
    }
    const cleared = heard(
      vscode.workspace.onDidChangeTextDocument,
      "the edit",
      (event) => event.document === document,
    );
    await editor.edit((edit) => edit.insert(new vscode.Position(0, 0), "# 🙂 ünïcode\n"));
    await cleared;
    assert.deepEqual(api.heat.heatOf(document.uri)?.tokens, []);
    const again =
      api.heat.heatOf(document.uri)?.state === "fresh"
        ? api.heat.heatOf(document.uri)!
        : await freshHeat(api, document);
    assert.equal(again.version, document.version);
  },

  async "turned off, it is off"() {
    const api = await connected();
    const { document } = await openGreeting();
    await vscode.commands.executeCommand("circuits.heatOff");
    assert.equal(api.heat.heatOf(document.uri)?.state, "off");
    await vscode.commands.executeCommand("workbench.action.files.revert");
  },

  async "a document that the model does not read is left alone"() {
    const api = await connected();
    const document = await vscode.workspace.openTextDocument({ language: "plaintext", content: "hello" });
    await vscode.window.showTextDocument(document);
    await vscode.commands.executeCommand("circuits.heatLoss");
    assert.equal(api.heat.heatOf(document.uri), undefined);
    await vscode.commands.executeCommand("workbench.action.closeActiveEditor");
  },

  async "all folders of a workspace share one server, whose command lies in one of them"() {
    const api = await connected();
    assert.equal(vscode.workspace.workspaceFolders?.length, 2);
    const { document } = await openFile("notes", "note.py");
    const first = freshHeat(api, document);
    await vscode.commands.executeCommand("circuits.heatLoss");
    assert.ok((await first).tokens.length > 3);
    assert.equal(serverProcesses().length, 1);
    await vscode.commands.executeCommand("circuits.heatOff");
    await vscode.commands.executeCommand("workbench.action.closeActiveEditor");
  },
};
