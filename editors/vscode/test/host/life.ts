// The server's life under the extension: asked, killed, missing, refused, and set up otherwise.

import assert from "node:assert/strict";
import { chmodSync, writeFileSync } from "node:fs";
import * as path from "node:path";
import * as vscode from "vscode";
import { statusOf } from "../../src/extension/nextStep";
import type { Link } from "../../src/extension/server";
import { connected, freshHeat, heard, isConnected, openGreeting, serverProcesses, type Tests } from "./bench";

const WORKSPACE = vscode.ConfigurationTarget.Workspace;

function settings(): vscode.WorkspaceConfiguration {
  return vscode.workspace.getConfiguration("circuit");
}

/** Do something with another `circuit.command`, and have the workspace's own again. */
async function withCommand(command: string, act: (link: Link) => void, state: Link["state"]): Promise<void> {
  const { server } = await connected();
  const changed = heard(server.onChanged, state, (link) => link.state === state);
  await settings().update("command", command, WORKSPACE);
  try {
    act(await changed);
  } finally {
    const back = heard(server.onChanged, "the own command", isConnected);
    await settings().update("command", undefined, WORKSPACE);
    await back;
  }
}

export const LIFE: Tests = {
  async "a refusal is a sentence for people"() {
    const { server } = await connected();
    await assert.rejects(
      server.ask("circuit/circuits/show", { circuit: "no/such/circuit" }),
      (error: Error) => {
        assert.equal(error.name, "Refusal");
        assert.doesNotMatch(error.message, /Traceback/);
        return error.message.length > 0;
      },
    );
  },

  async "a server that is killed is started again, says that it ended, and heat comes back"() {
    const api = await connected();
    const { server } = api;
    const { document } = await openGreeting();
    const warm = freshHeat(api, document);
    await vscode.commands.executeCommand("circuits.heatProbability");
    await warm;
    const [pid] = serverProcesses();
    assert.ok(pid !== undefined, "no server process");
    const ended = heard(server.onChanged, "the end", (link) => link.state === "ended");
    process.kill(pid, "SIGKILL");
    const link = await ended;
    assert.ok(link.state === "ended" && link.sentence !== "" && link.retryInMs >= 1000);
    const again = freshHeat(api, document);
    await heard(
      server.onChanged,
      "another server",
      (next) => next.state === "running" && next.daemon?.state === "connected",
    );
    assert.notDeepEqual(serverProcesses(), [pid]);
    assert.equal((await again).choice.of, "probability");
    await vscode.commands.executeCommand("circuits.heatOff");
  },

  async "settings reach the server"() {
    const { server } = await connected();
    const settings = vscode.workspace.getConfiguration("circuit");
    const isNamed = (name: string) => (link: Link) =>
      link.state === "running" && link.daemon?.session === name;
    const moved = heard(server.onChanged, "another session", isNamed("of-the-host-test"));
    await settings.update("session", "of-the-host-test", vscode.ConfigurationTarget.Workspace);
    await moved;
    const back = heard(server.onChanged, "the old session", isNamed("editor"));
    await settings.update("session", undefined, vscode.ConfigurationTarget.Workspace);
    await back;
  },

  async "a command that is not there is said, with the setting to correct"() {
    const check = (link: Link) => {
      const { severity, tooltip, steps } = statusOf(link);
      assert.match(tooltip, /circuit\.command is \/no\/such\/circuit/);
      assert.deepEqual([severity, steps[0]?.command], ["warning", "circuits.openSettings"]);
    };
    await withCommand("/no/such/circuit", check, "missing");
  },

  async "a command without its extra is said in its own words: what to install"() {
    const folder = vscode.workspace.workspaceFolders?.[0]?.uri.fsPath;
    assert.ok(folder);
    const command = path.join(folder, "circuit-without-extra");
    writeFileSync(command, "#!/bin/sh\necho \"Error: pip install 'circuitd[lsp]'\" >&2\nexit 1\n");
    chmodSync(command, 0o755);
    const check = (link: Link) => assert.match(statusOf(link).tooltip, /pip install 'circuitd\[lsp\]'/);
    await withCommand(command, check, "ended");
  },

  async "an endpoint where nobody listens is said, and the old one comes back"() {
    const { server } = await connected();
    const there = await server.ask("circuit/daemon/connect", { endpoint: "ipc:///no/such.sock" });
    assert.equal(there.state, "absent");
    assert.match(there.sentence, /nobody listens there/);
    const none = await server.ask("circuit/daemon/connect", { endpoint: "http://x" });
    assert.equal(none.state, "refused");
    assert.equal((await server.ask("circuit/daemon/connect", {})).state, "connected");
  },

  async "settings that make no sense keep their defaults, and the server"() {
    const { server } = await connected();
    await settings().update("debounceMs", -5, WORKSPACE);
    assert.equal((await server.ask("circuit/status", {})).state, "connected");
    await settings().update("debounceMs", undefined, WORKSPACE);
    assert.equal(serverProcesses().length, 1);
  },
};
