// What tests in the extension host work with: the extension, events that are waited for, documents.

import assert from "node:assert/strict";
import { readdirSync, readFileSync } from "node:fs";
import * as path from "node:path";
import * as vscode from "vscode";
import type { Api } from "../../src/extension/extension";
import type { Link } from "../../src/extension/server";
import type { Heat } from "../../src/protocol.generated";

const ID = "circuitd.circuit";
const LIMIT_MS = 60_000;

/** Tests by name. `figures` are for whoever measures. */
export type Tests = { readonly [name: string]: (figures: { [name: string]: number }) => Promise<void> };

export interface Manifest {
  readonly contributes: {
    readonly commands: readonly { command: string; enablement?: string }[];
    readonly colors: readonly { id: string }[];
    readonly views: { readonly circuits: readonly { id: string }[] };
    readonly viewsWelcome: readonly { view: string }[];
  };
}

export function extension(): vscode.Extension<Api> {
  const found = vscode.extensions.getExtension<Api>(ID);
  assert.ok(found, `${ID} is not there`);
  return found;
}

/** The first value that `accept` takes, of those that the event brings from now on. */
export function heard<T>(event: vscode.Event<T>, what: string, accept: (value: T) => boolean): Promise<T> {
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

export function isConnected(link: Link): boolean {
  return link.state === "running" && link.daemon?.state === "connected";
}

/** The extension with a daemon. */
export async function connected(): Promise<Api> {
  const api = await extension().activate();
  if (!isConnected(api.server.link)) await heard(api.server.onChanged, "a connected daemon", isConnected);
  return api;
}

export function freshHeat({ server }: Api, document: vscode.TextDocument): Promise<Heat> {
  const event: vscode.Event<Heat> = (listener) => server.on("circuit/heat", listener);
  const isFresh = (heat: Heat) =>
    heat.state === "fresh" && heat.uri === document.uri.toString() && heat.version === document.version;
  return heard(event, "fresh heat", isFresh);
}

/** A file of one of the workspace's two folders. */
export async function openFile(folder: string, name: string): Promise<vscode.TextEditor> {
  const found = vscode.workspace.workspaceFolders?.find((x) => x.name === folder)?.uri;
  assert.ok(found, `no folder ${folder}`);
  return vscode.window.showTextDocument(vscode.Uri.joinPath(found, name));
}

export function openGreeting(): Promise<vscode.TextEditor> {
  return openFile("workspace", "greet.py");
}

/** Processes of this host that run the language server. */
export function serverProcesses(): number[] {
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
