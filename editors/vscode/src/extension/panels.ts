// The open panels: made, found again after a reload, and told where the cursor is.

import * as vscode from "vscode";
import type { TokenDetail } from "../protocol.generated";
import type { Border } from "../shared/contract";
import { savedPage, webviewHtml } from "./page";
import { PanelLink } from "./panelLink";
import type { Server } from "./server";
import { edgesShown, isRead } from "./settings";

const VIEW_TYPE = "circuits.panel";
const FOCUS_AFTER_MS = 120;
/** Nodes asked for at the token under the cursor: a circuit has some hundred. */
const N_NODES = 200;

/** What a panel needs of its surroundings. */
export interface Desk {
  readonly server: Server;
  readonly log: vscode.LogOutputChannel;
  focus(): Border<"Focus">;
  followsChanged(): void;
  edgesShown(): number;
  savedPage(title: string, snapshotJson: string): Promise<string>;
}

export class Panels implements Desk, vscode.WebviewPanelSerializer, vscode.Disposable {
  readonly server: Server;
  readonly log: vscode.LogOutputChannel;
  readonly #extension: vscode.Uri;
  readonly #links = new Set<PanelLink>();
  readonly #disposables: vscode.Disposable[];
  #document: vscode.TextDocument | null = null;
  #token: TokenDetail | null = null;
  #timer: NodeJS.Timeout | undefined;
  #asking: vscode.CancellationTokenSource | undefined;

  constructor(server: Server, log: vscode.LogOutputChannel, extension: vscode.Uri) {
    this.server = server;
    this.log = log;
    this.#extension = extension;
    this.#disposables = [
      vscode.window.registerWebviewPanelSerializer(VIEW_TYPE, this),
      vscode.window.onDidChangeActiveTextEditor((editor) => this.#looked(editor)),
      vscode.window.onDidChangeVisibleTextEditors(() => this.#lookedAtFirst()),
      vscode.window.onDidChangeTextEditorSelection(({ textEditor }) => this.#looked(textEditor)),
      server.on("circuit/heat", ({ uri, state }) => {
        if (state === "fresh" && uri === this.#document?.uri.toString()) this.#look();
      }),
    ];
    this.#lookedAtFirst();
  }

  /** After a reload the panel may have the focus: then the text beside it is looked at. */
  #lookedAtFirst(): void {
    if (this.#document !== null) return;
    const { activeTextEditor, visibleTextEditors } = vscode.window;
    this.#looked(activeTextEditor ?? visibleTextEditors.find(({ document }) => isRead(document)));
  }

  /** Open the panel beside the text, or bring it to the front; `circuit` null: the session's. */
  open(circuit: string | null, isNew = false): void {
    const [link] = this.#links;
    if (link !== undefined && !isNew) {
      link.panel.reveal(undefined, true);
      if (circuit !== null) link.show(circuit);
      return;
    }
    const panel = vscode.window.createWebviewPanel(
      VIEW_TYPE,
      "Circuit",
      { viewColumn: vscode.ViewColumn.Beside, preserveFocus: true },
      this.#options(),
    );
    this.#adopt(panel, circuit);
  }

  async deserializeWebviewPanel(panel: vscode.WebviewPanel): Promise<void> {
    panel.webview.options = this.#options();
    this.#adopt(panel, null);
  }

  focus(): Border<"Focus"> {
    const document = this.#document;
    if (document === null) return { uri: null, name: null, token: null };
    return {
      uri: document.uri.toString(),
      name: vscode.workspace.asRelativePath(document.uri),
      token: this.#token,
    };
  }

  followsChanged(): void {
    this.#look();
  }

  edgesShown(): number {
    return edgesShown();
  }

  async savedPage(title: string, snapshotJson: string): Promise<string> {
    const [script, style, pageStyle] = await Promise.all(
      ["panel.js", "panel.css", "page.css"].map((name) => this.#asset(name)),
    );
    return savedPage(title, snapshotJson, {
      script: script ?? "",
      style: style ?? "",
      pageStyle: pageStyle ?? "",
    });
  }

  async #asset(name: string): Promise<string> {
    return Buffer.from(
      await vscode.workspace.fs.readFile(vscode.Uri.joinPath(this.#extension, "dist", name)),
    ).toString("utf8");
  }

  #options(): vscode.WebviewOptions {
    return { enableScripts: true, localResourceRoots: [vscode.Uri.joinPath(this.#extension, "dist")] };
  }

  #adopt(panel: vscode.WebviewPanel, circuit: string | null): void {
    const dist = vscode.Uri.joinPath(this.#extension, "dist");
    const { webview } = panel;
    const uri = (name: string) => webview.asWebviewUri(vscode.Uri.joinPath(dist, name)).toString();
    panel.iconPath = vscode.Uri.joinPath(this.#extension, "media", "circuit.svg");
    const link = new PanelLink(panel, this, circuit);
    this.#links.add(link);
    panel.onDidDispose(() => {
      this.#links.delete(link);
      link.dispose();
    });
    webview.html = webviewHtml(uri("panel.js"), uri("panel.css"), webview.cspSource);
  }

  /** The cursor is somewhere: the panels hear of the document at once, of the token a moment later. */
  #looked(editor: vscode.TextEditor | undefined): void {
    if (editor === undefined || !isRead(editor.document)) return; // the panel itself was clicked
    if (editor.document !== this.#document) {
      this.#document = editor.document;
      this.#token = null;
      this.#tell();
    }
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.#look(), FOCUS_AFTER_MS);
  }

  #look(): void {
    const editor = vscode.window.visibleTextEditors.find(({ document }) => document === this.#document);
    if (editor === undefined || !this.server.isConnected || ![...this.#links].some((link) => link.follows))
      return;
    this.#asking?.cancel();
    const asking = new vscode.CancellationTokenSource();
    this.#asking = asking;
    const { line, character } = editor.selection.active;
    const params = {
      uri: editor.document.uri.toString(),
      position: { line, character },
      nNodes: N_NODES,
      nPredictions: 0,
    };
    this.server.ask("circuit/document/token", params, asking.token).then(
      (token) => {
        if (asking.token.isCancellationRequested) return;
        this.#token = token;
        this.#tell();
      },
      (error: unknown) => this.log.debug(`No token at the cursor: ${String(error)}`),
    );
  }

  #tell(): void {
    for (const link of this.#links) link.tell("focus", this.focus());
  }

  dispose(): void {
    clearTimeout(this.#timer);
    this.#asking?.cancel();
    for (const link of this.#links) link.panel.dispose();
    for (const disposable of this.#disposables) disposable.dispose();
  }
}
