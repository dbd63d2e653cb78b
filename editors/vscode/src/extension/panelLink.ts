// One open panel: answers what it asks, tells it what happens, and nothing outside the contract.

import * as vscode from "vscode";
import {
  ASKS,
  type Ask,
  type Border,
  type Forwarded,
  type FromExtension,
  type ParamsOf,
  readFromPanel,
  readParams,
  type Tell,
  type Told,
} from "../shared/contract";
import type { Desk } from "./panels";
import { Refusal, sentenceOf } from "./refusal";

export class PanelLink implements vscode.Disposable {
  readonly #panel: vscode.WebviewPanel;
  readonly #desk: Desk;
  readonly #running = new Map<number, vscode.CancellationTokenSource>();
  readonly #disposables: vscode.Disposable[];
  #isReady = false;
  #circuit: string | null;
  follows = false;

  constructor(panel: vscode.WebviewPanel, desk: Desk, circuit: string | null) {
    this.#panel = panel;
    this.#desk = desk;
    this.#circuit = circuit;
    const { server } = desk;
    this.#disposables = [
      panel.webview.onDidReceiveMessage((message: unknown) => this.#arrived(message)),
      server.on("circuit/sessionChanged", (session) => this.tell("session", session)),
      server.on("circuit/catalogueChanged", (changed) => this.tell("catalogue", changed)),
      server.on("circuit/jobChanged", (job) => this.tell("job", job)),
      server.onChanged(() => {
        if (server.daemon !== null) this.tell("status", server.daemon);
      }),
    ];
  }

  get panel(): vscode.WebviewPanel {
    return this.#panel;
  }

  /** Look at `circuit` now, or as soon as the panel is there. */
  show(circuit: string | null): void {
    this.#circuit = circuit;
    this.tell("show", { circuit });
  }

  tell<E extends Tell>(event: E, data: Told<E>): void {
    if (this.#isReady) this.#send({ kind: "news", event, data });
  }

  #send(message: FromExtension): void {
    void this.#panel.webview.postMessage(message);
  }

  #arrived(data: unknown): void {
    try {
      const message = readFromPanel(data);
      if (message.kind === "ready") void this.#begin();
      else if (message.kind === "cancel") this.#running.get(message.id)?.cancel();
      else void this.#answer(message.id, message.method, message.params);
    } catch (error) {
      this.#desk.log.error(`The panel said what is not in the contract: ${sentenceOf(error)}`);
    }
  }

  async #begin(): Promise<void> {
    const { server } = this.#desk;
    this.#isReady = true;
    this.tell("options", { edgesShown: this.#desk.edgesShown() });
    if (server.daemon !== null) this.tell("status", server.daemon);
    this.tell("focus", this.#desk.focus());
    if (server.isConnected) {
      const session = await server.ask("circuit/session/get", {}).catch(() => null);
      if (session !== null) this.tell("session", session);
    }
    this.tell("show", { circuit: this.#circuit });
  }

  async #answer(id: number, method: Ask, params: unknown): Promise<void> {
    const source = new vscode.CancellationTokenSource();
    this.#running.set(id, source);
    try {
      const result = await this.#carryOut(method, params, source.token);
      this.#send({ kind: "answer", id, result });
    } catch (error) {
      if (source.token.isCancellationRequested) return;
      const hint = error instanceof Refusal ? error.problem.hint : null;
      const message = error instanceof Refusal ? error.problem.message : sentenceOf(error);
      this.#desk.log.debug(`${method}: ${sentenceOf(error)}`);
      this.#send({ kind: "failure", id, message, hint });
    } finally {
      this.#running.delete(id);
      source.dispose();
    }
  }

  async #carryOut(method: Ask, params: unknown, token: vscode.CancellationToken): Promise<unknown> {
    switch (method) {
      case "panel/save":
        return this.#save(readParams(method, params));
      case "panel/savePage":
        return this.#savePage(readParams(method, params));
      case "panel/copy": {
        const { text, what } = readParams(method, params);
        await vscode.env.clipboard.writeText(text);
        vscode.window.setStatusBarMessage(`Copied ${what}`, 3000);
        return {};
      }
      case "panel/run":
        await vscode.commands.executeCommand(readParams(method, params).command);
        return {};
      case "panel/follow":
        this.follows = readParams(method, params).on;
        this.#desk.followsChanged();
        return {};
      case "panel/nodeHeat": {
        const { node, circuit } = readParams(method, params);
        await vscode.commands.executeCommand("circuits.nodeHeat", node, circuit);
        return {};
      }
      default:
        return this.#forward(method, params, token);
    }
  }

  #forward<M extends Forwarded>(
    method: M,
    params: unknown,
    token: vscode.CancellationToken,
  ): Promise<unknown> {
    const checked = readParams(method, params) as ParamsOf<M>;
    this.#desk.log.trace(`${method} ${ASKS[method][0]}`);
    return this.#desk.server.ask(method, checked as never, token);
  }

  async #save({ fileName, text, base64 }: Border<"SaveParams">): Promise<Border<"Saved">> {
    const bytes = base64 === null ? encoded(text ?? "") : new Uint8Array(Buffer.from(base64, "base64"));
    return { path: await saveAs(fileName, bytes) };
  }

  async #savePage(snapshot: Border<"Snapshot">): Promise<Border<"Saved">> {
    const { info } = snapshot.graphs[0] ?? {};
    const title = info === undefined ? "Circuit" : `${info.task} in ${info.model}, ${info.k} nodes`;
    const page = await this.#desk.savedPage(title, JSON.stringify(snapshot));
    const fileName =
      info === undefined ? "circuit.html" : `${info.task}-${info.k}-${info.id.slice(0, 8)}.html`;
    return { path: await saveAs(fileName, encoded(page)) };
  }

  dispose(): void {
    for (const source of this.#running.values()) source.cancel();
    for (const disposable of this.#disposables) disposable.dispose();
  }
}

function encoded(text: string): Uint8Array {
  return new TextEncoder().encode(text);
}

/** Ask where, write, and offer to open it; null where the dialog was dismissed. */
async function saveAs(fileName: string, bytes: Uint8Array): Promise<string | null> {
  const folder = vscode.workspace.workspaceFolders?.[0]?.uri;
  const extension = fileName.slice(fileName.lastIndexOf(".") + 1);
  const target = await vscode.window.showSaveDialog({
    ...(folder === undefined ? {} : { defaultUri: vscode.Uri.joinPath(folder, fileName) }),
    filters: { [extension.toUpperCase()]: [extension] },
  });
  if (target === undefined) return null;
  await vscode.workspace.fs.writeFile(target, bytes);
  const isText = !["png", "html"].includes(extension);
  void vscode.window
    .showInformationMessage(`Saved ${target.path}`, ...(isText ? ["Open"] : []))
    .then((chosen) => {
      if (chosen === "Open") void vscode.window.showTextDocument(target);
    });
  return target.fsPath;
}
