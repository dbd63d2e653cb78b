// Token heat in the editor: decorations of the very version that was read, gone at the first edit.

import * as vscode from "vscode";
import type { Heat, HeatChoice } from "../protocol.generated";
import { ALL_SHADES, backgroundId, legendText, legendTooltip, tokensByShade, underlineId } from "./heatPlan";
import { sentenceOf } from "./refusal";
import type { Server } from "./server";
import { hasBackground, isOurs, isRead } from "./settings";

/** A long document is read around the cursor: where that is need not be told at every key. */
const FOCUS_AFTER_MS = 200;

export class HeatLayer implements vscode.Disposable {
  readonly #server: Server;
  readonly #log: vscode.LogOutputChannel;
  readonly #heats = new Map<string, Heat>();
  readonly #legend = vscode.window.createStatusBarItem(
    "circuits.legend",
    vscode.StatusBarAlignment.Right,
    89,
  );
  readonly #disposables: vscode.Disposable[];
  /** What heat was of, where the server has ended since: the next one is asked for the same. */
  readonly #lost = new Map<string, HeatChoice>();
  #shades = decorationTypes();
  #focus: NodeJS.Timeout | undefined;

  constructor(server: Server, log: vscode.LogOutputChannel) {
    this.#server = server;
    this.#log = log;
    this.#legend.name = "Circuits: heat";
    this.#legend.command = "circuits.chooseHeat";
    this.#disposables = [
      this.#legend,
      server.on("circuit/heat", (heat) => this.#arrived(heat)),
      server.onChanged(({ state }) => {
        if (state === "running") this.#watchAgain();
        else this.#forgetAll();
      }),
      vscode.workspace.onDidChangeTextDocument(({ document, contentChanges }) => {
        if (contentChanges.length > 0) this.#stale(document.uri);
      }),
      vscode.workspace.onDidCloseTextDocument(({ uri }) => this.#heats.delete(uri.toString())),
      vscode.window.onDidChangeVisibleTextEditors((editors) => {
        for (const editor of editors) this.#paint(editor);
      }),
      vscode.window.onDidChangeActiveTextEditor(() => this.#showLegend()),
      vscode.window.onDidChangeTextEditorSelection(({ textEditor }) => this.#focused(textEditor)),
      vscode.workspace.onDidChangeConfiguration((event) => {
        if (isOurs(event)) this.#renew();
      }),
    ];
  }

  /** The heat of a document as it was last heard of. */
  heatOf(uri: vscode.Uri): Heat | undefined {
    return this.#heats.get(uri.toString());
  }

  /** Turn it on, off, or to another number. */
  async watch(document: vscode.TextDocument, on: boolean, choice: HeatChoice | null): Promise<void> {
    if (on && !isRead(document)) {
      const words = `The model does not read ${document.languageId} documents (setting circuit.languages).`;
      void vscode.window.showInformationMessage(words);
      return;
    }
    const uri = document.uri.toString();
    this.#arrived(await this.#server.ask("circuit/document/watch", { uri, on, choice }));
  }

  #arrived(heat: Heat): void {
    this.#heats.set(heat.uri, heat);
    for (const editor of vscode.window.visibleTextEditors) {
      if (editor.document.uri.toString() === heat.uri) this.#paint(editor);
    }
    this.#showLegend();
  }

  /** Decorate an editor with what is known of its very text, or with nothing. */
  #paint(editor: vscode.TextEditor): void {
    const heat = this.#heats.get(editor.document.uri.toString());
    const isFresh = heat?.state === "fresh" && heat.version === editor.document.version;
    const tokens = tokensByShade(isFresh ? heat.tokens : []);
    for (const [shade, type] of this.#shades) {
      const ranges = (tokens.get(shade) ?? []).map(
        ({ range: { start, end } }) => new vscode.Range(start.line, start.character, end.line, end.character),
      );
      editor.setDecorations(type, ranges);
    }
  }

  /** The text has changed: what was known of it is wrong, at once. */
  #stale(uri: vscode.Uri): void {
    const heat = this.#heats.get(uri.toString());
    if (heat === undefined || heat.state === "off") return;
    if (heat.tokens.length > 0) this.#log.trace(`cleared the heat of ${uri.path}`);
    this.#arrived({
      ...heat,
      state: heat.state === "fresh" ? "waiting" : heat.state,
      tokens: [],
      meanLoss: null,
    });
  }

  #forgetAll(): void {
    const note = "There is no language server now.";
    for (const [uri, heat] of this.#heats) {
      if (heat.state === "off") this.#heats.delete(uri);
      else if (!this.#lost.has(uri)) {
        this.#lost.set(uri, heat.choice);
        this.#arrived({ ...heat, state: "unavailable", tokens: [], note });
      }
    }
  }

  #watchAgain(): void {
    for (const [uri, choice] of this.#lost) {
      this.#lost.delete(uri);
      if (!vscode.workspace.textDocuments.some((document) => document.uri.toString() === uri)) continue;
      this.#server.ask("circuit/document/watch", { uri, on: true, choice }).then(
        (heat) => this.#arrived(heat),
        (error: unknown) => this.#log.warn(`${uri}: ${sentenceOf(error)}`),
      );
    }
  }

  #showLegend(): void {
    // While the panel has the focus, the legend is that of the text beside it.
    const { activeTextEditor, visibleTextEditors } = vscode.window;
    const editors = activeTextEditor === undefined ? visibleTextEditors : [activeTextEditor];
    const heats = editors.map(({ document }) => this.#heats.get(document.uri.toString()));
    const heat = heats.find((x) => x !== undefined && x.state !== "off");
    const text = heat === undefined ? "" : legendText(heat);
    void vscode.commands.executeCommand("setContext", "circuits.heatOn", text !== "");
    if (heat === undefined || text === "") {
      this.#legend.hide();
      return;
    }
    this.#legend.text = text;
    this.#legend.tooltip = new vscode.MarkdownString(legendTooltip(heat));
    this.#legend.show();
  }

  #focused(editor: vscode.TextEditor): void {
    const uri = editor.document.uri.toString();
    if (this.#heats.get(uri)?.isWhole !== false) return;
    clearTimeout(this.#focus);
    const { line, character } = editor.selection.active;
    this.#focus = setTimeout(
      () => this.#server.tell("circuit/document/focus", { uri, position: { line, character } }),
      FOCUS_AFTER_MS,
    );
  }

  /** Other settings: other decorations. */
  #renew(): void {
    for (const type of this.#shades.values()) type.dispose();
    this.#shades = decorationTypes();
    for (const editor of vscode.window.visibleTextEditors) this.#paint(editor);
  }

  dispose(): void {
    clearTimeout(this.#focus);
    for (const type of this.#shades.values()) type.dispose();
    for (const disposable of this.#disposables) disposable.dispose();
  }
}

/** Colour behind, and a line below that says sign and size without colour. */
function decorationTypes(): Map<number, vscode.TextEditorDecorationType> {
  const types = ALL_SHADES.map((shade): [number, vscode.TextEditorDecorationType] => [
    shade,
    vscode.window.createTextEditorDecorationType({
      ...(hasBackground() ? { backgroundColor: new vscode.ThemeColor(backgroundId(shade)) } : {}),
      borderWidth: `0 0 ${Math.abs(shade) > 3 ? 3 : Math.abs(shade) > 1 ? 2 : 1}px 0`,
      borderStyle: shade > 0 ? "solid" : "dashed",
      borderColor: new vscode.ThemeColor(underlineId(shade)),
      overviewRulerColor: Math.abs(shade) > 3 ? new vscode.ThemeColor(underlineId(shade)) : undefined,
      overviewRulerLane: vscode.OverviewRulerLane.Center,
      rangeBehavior: vscode.DecorationRangeBehavior.ClosedClosed,
    } as vscode.DecorationRenderOptions),
  ]);
  return new Map(types);
}
