// What the user has set, as this extension and as the language server understand it.

import * as vscode from "vscode";
import type { Settings } from "../protocol.generated";

const SECTION = "circuit";
/** Documents live here; others (diffs, output, git's) are not read. */
const SCHEMES = ["file", "untitled", "vscode-notebook-cell"];

/** For the language server: empty text means "not set". */
export function serverSettings(): Settings {
  const found = vscode.workspace.getConfiguration(SECTION);
  const text = (name: string) => found.get<string>(name)?.trim() || null;
  const session = text("session");
  return {
    endpoint: text("endpoint"),
    key: text("keyFile"),
    serverKey: text("serverKeyFile"),
    // A workspace that is not trusted starts nothing, whatever its settings say.
    startDaemon: vscode.workspace.isTrusted && found.get("startDaemon", false),
    ...(session === null ? {} : { session }),
    model: text("model"),
    enabled: found.get("heat.onOpen", false),
    languages: languages(),
    heat: { of: found.get<"loss" | "probability">("heat.of", "loss") },
    debounceMs: found.get("debounceMs", 150),
    inlayHints: found.get("inlayHints", false),
    codeLens: found.get("codeLens", true),
    // Heat is drawn as decorations here.
    semanticTokens: false,
    documentHighlights: false,
    commandLinks: true,
    sayResults: false,
  };
}

/** Path of the `circuit` command; empty: to be looked for. */
export function commandSetting(): string {
  return vscode.workspace.getConfiguration(SECTION).get<string>("command", "").trim();
}

export function languages(): string[] {
  return vscode.workspace.getConfiguration(SECTION).get<string[]>("languages", ["python"]);
}

export function edgesShown(): number {
  return vscode.workspace.getConfiguration(SECTION).get("panel.edgesShown", 400);
}

/** Whether tokens get a background beside their underline. */
export function hasBackground(): boolean {
  return vscode.workspace.getConfiguration(SECTION).get("heat.background", true);
}

/** Documents that the model may read. */
export function isRead(document: vscode.TextDocument): boolean {
  return SCHEMES.includes(document.uri.scheme) && languages().includes(document.languageId);
}

/** The same for the language client, and files in which tasks and site names are written. */
export function selector(): ({ language: string; scheme: string } | { pattern: string; scheme: string })[] {
  const read = languages().flatMap((language) => SCHEMES.map((scheme) => ({ language, scheme })));
  return [...read, { scheme: "file", pattern: "**/*.{json,jsonl}" }];
}

/** Whether a change of configuration asks for the server to be started anew. */
export function needsRestart(event: vscode.ConfigurationChangeEvent): boolean {
  return event.affectsConfiguration("circuit.command") || event.affectsConfiguration("circuit.languages");
}

export function isOurs(event: vscode.ConfigurationChangeEvent): boolean {
  return event.affectsConfiguration(SECTION);
}
