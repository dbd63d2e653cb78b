// Tests inside the real extension host: VS Code calls `run`, which writes what it found to a file.

import assert from "node:assert/strict";
import { readdirSync, readFileSync, writeFileSync } from "node:fs";
import * as path from "node:path";
import * as vscode from "vscode";
import type { Api } from "../../src/extension/extension";
import { tokensByShade } from "../../src/extension/heatPlan";
import type { Link } from "../../src/extension/server";
import type { Heat } from "../../src/protocol.generated";

const ID = "circuitd.circuit";
const LIMIT_MS = 60_000;
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

interface Manifest {
  readonly contributes: {
    readonly commands: readonly { command: string; enablement?: string }[];
    readonly colors: readonly { id: string }[];
    readonly views: { readonly circuits: readonly { id: string }[] };
    readonly viewsWelcome: readonly { view: string }[];
  };
}

/** Called by VS Code. CIRCUIT_HOST_TESTS: a pattern, to run some only. */
export async function run(): Promise<void> {
  const results: { name: string; error: string | null; ms: number }[] = [];
  const figures: { [name: string]: number } = {};
  const wanted = new RegExp(process.env.CIRCUIT_HOST_TESTS ?? "");
  for (const [name, test] of Object.entries(TESTS).filter(([title]) => wanted.test(title))) {
    const began = Date.now();
    const error = await test(figures).then(
      () => null,
      (why: unknown) => (why instanceof Error ? (why.stack ?? why.message) : String(why)),
    );
    results.push({ name, error, ms: Date.now() - began });
  }
  const file = process.env.CIRCUIT_HOST_RESULTS;
  if (file === undefined) throw new Error("CIRCUIT_HOST_RESULTS does not say where results go");
  writeFileSync(file, JSON.stringify({ results, figures }));
}

function extension(): vscode.Extension<Api> {
  const found = vscode.extensions.getExtension<Api>(ID);
  assert.ok(found, `${ID} is not there`);
  return found;
}

/** The first value that `accept` takes, of those that the event brings from now on. */
function heard<T>(event: vscode.Event<T>, what: string, accept: (value: T) => boolean): Promise<T> {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(() => {
      listening.dispose();
      reject(new Error(`${what}: not within ${LIMIT_MS / 1000} s`));
    }, LIMIT_MS);
    const listening = event((value) => {
      if (!accept(value)) return;
      clearTimeout(timer);
      listening.dispose();
      resolve(value);
    });
  });
}

async function connected(): Promise<Api> {
  const { server, heat } = await extension().activate();
  const isThere = (link: Link) => link.state === "running" && link.daemon?.state === "connected";
  if (!isThere(server.link)) await heard(server.onChanged, "a connected daemon", isThere);
  return { server, heat };
}

function freshHeat({ server }: Api, document: vscode.TextDocument): Promise<Heat> {
  const event: vscode.Event<Heat> = (listener) => server.on("circuit/heat", listener);
  const isFresh = (heat: Heat) =>
    heat.state === "fresh" && heat.uri === document.uri.toString() && heat.version === document.version;
  return heard(event, "fresh heat", isFresh);
}

async function openGreeting(): Promise<vscode.TextEditor> {
  const folder = vscode.workspace.workspaceFolders?.[0]?.uri;
  assert.ok(folder);
  return vscode.window.showTextDocument(vscode.Uri.joinPath(folder, "greet.py"));
}

/** Processes of this host that run the language server. */
function serverProcesses(): number[] {
  const numbers = readdirSync("/proc").filter((name) => /^\d+$/.test(name));
  return numbers.map(Number).filter((pid) => {
    try {
      const parent = /^\d+ \(.*\) \S (\d+)/s.exec(
        readFileSync(path.join("/proc", String(pid), "stat"), "utf8"),
      )?.[1];
      const words = readFileSync(path.join("/proc", String(pid), "cmdline"), "utf8").split("\0");
      return Number(parent) === process.pid && words.includes("lsp");
    } catch {
      return false; // it has ended meanwhile
    }
  });
}

const TESTS: { readonly [name: string]: (figures: { [name: string]: number }) => Promise<void> } = {
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

  async "a server that is killed is started again, and says that it ended"() {
    const { server } = await connected();
    const [pid] = serverProcesses();
    assert.ok(pid !== undefined, "no server process");
    const ended = heard(server.onChanged, "the end", (link) => link.state === "ended");
    process.kill(pid, "SIGKILL");
    const link = await ended;
    assert.ok(link.state === "ended" && link.sentence !== "" && link.retryInMs >= 1000);
    await heard(
      server.onChanged,
      "another server",
      (next) => next.state === "running" && next.daemon?.state === "connected",
    );
    assert.notDeepEqual(serverProcesses(), [pid]);
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
};
