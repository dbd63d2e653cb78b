// The language server's life: found, started, talked to, and started again when it ends.
//
// Nothing starts in a workspace that is not trusted. A server that ends by itself is started again
// after a wait that grows; why it ended is kept for the status item and written to the log.

import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { accessSync, constants, statSync } from "node:fs";
import * as os from "node:os";
import * as vscode from "vscode";
import { CloseAction, ErrorAction, LanguageClient, RevealOutputChannelOn } from "vscode-languageclient/node";
import { type DaemonStatus, NEWS, type Requests, type ToEditor, type ToServer } from "../protocol.generated";
import { ShapeError } from "../shared/shape";
import { Backoff } from "./backoff";
import { findCommand } from "./findCommand";
import { misunderstood, problemOf, readNewsOf, readResultOf } from "./received";
import { noServer, Refusal, sentenceOf } from "./refusal";
import { LINKED_COMMANDS, showResult } from "./results";
import { commandSetting, isOurs, needsRestart, selector, serverSettings } from "./settings";

/** Where the server is, and what is known of the daemon. */
export type Link =
  | { readonly state: "untrusted" }
  | { readonly state: "missing"; readonly sentence: string; readonly hint: string }
  | { readonly state: "starting" }
  | { readonly state: "ended"; readonly sentence: string; readonly retryInMs: number }
  | { readonly state: "running"; readonly daemon: DaemonStatus | null };

type Events = { readonly [E in keyof ToEditor]: vscode.EventEmitter<ToEditor[E]> };

/** Lines of stderr that are kept. */
const LAST_WORDS = 5;

export class Server implements vscode.Disposable {
  readonly #log: vscode.LogOutputChannel;
  readonly #changed = new vscode.EventEmitter<Link>();
  readonly #events: Events = {
    "circuit/statusChanged": new vscode.EventEmitter(),
    "circuit/heat": new vscode.EventEmitter(),
    "circuit/sessionChanged": new vscode.EventEmitter(),
    "circuit/catalogueChanged": new vscode.EventEmitter(),
    "circuit/jobChanged": new vscode.EventEmitter(),
  };
  readonly #backoff = new Backoff();
  readonly #disposables: vscode.Disposable[] = [];
  #link: Link = { state: "starting" };
  #client: LanguageClient | null = null;
  #retry: NodeJS.Timeout | undefined;
  #startedAt = 0;
  #lastWords: readonly string[] = [];
  #isWanted = false;

  /** The link changed: started, ended, or the daemon's status. */
  readonly onChanged = this.#changed.event;

  constructor(log: vscode.LogOutputChannel) {
    this.#log = log;
    this.#disposables.push(
      vscode.workspace.onDidGrantWorkspaceTrust(() => void this.start()),
      vscode.workspace.onDidChangeConfiguration((event) => {
        if (needsRestart(event)) void this.restart();
        else if (isOurs(event)) void this.#tellSettings();
      }),
    );
    this.on("circuit/statusChanged", (daemon) => this.#set({ state: "running", daemon }));
  }

  get link(): Link {
    return this.#link;
  }

  /** The daemon's status as far as it is known. */
  get daemon(): DaemonStatus | null {
    return this.#link.state === "running" ? this.#link.daemon : null;
  }

  get isConnected(): boolean {
    return this.daemon?.state === "connected";
  }

  /** Hear the server's notifications, also of later lives. */
  on<E extends keyof ToEditor>(event: E, listener: (params: ToEditor[E]) => void): vscode.Disposable {
    return (this.#events[event] as vscode.EventEmitter<ToEditor[E]>).event(listener);
  }

  /** Start the server if it may be, and is not running. */
  async start(): Promise<void> {
    this.#isWanted = true;
    if (this.#client !== null) return;
    clearTimeout(this.#retry);
    if (!vscode.workspace.isTrusted) {
      this.#set({ state: "untrusted" });
      return;
    }
    const command = findCommand({
      setting: commandSetting(),
      folders: (vscode.workspace.workspaceFolders ?? []).map((folder) => folder.uri.fsPath),
      searchPath: process.env.PATH ?? "",
      home: os.homedir(),
      isProgram,
    });
    if (command.path === null) {
      this.#log.warn(`${command.sentence} ${command.hint}`);
      this.#set({ state: "missing", sentence: command.sentence, hint: command.hint });
      return;
    }
    this.#log.info(`Starting ${command.path} lsp (found by ${command.by}).`);
    this.#set({ state: "starting" });
    await this.#launch(command.path);
  }

  async #launch(command: string): Promise<void> {
    const client = this.#clientFor(command);
    this.#client = client;
    this.#startedAt = Date.now();
    for (const event of Object.keys(NEWS) as (keyof ToEditor)[])
      client.onNotification(event, (params: unknown) => this.#heard(event, params));
    try {
      await client.start();
      this.#set({ state: "running", daemon: null });
      const daemon = await this.ask("circuit/status", {});
      if (this.#client === client) this.#set({ state: "running", daemon });
    } catch (error) {
      if (this.#client === client) this.#ended(sentenceOf(error));
    }
  }

  #clientFor(command: string): LanguageClient {
    const client = new LanguageClient("circuit", "Circuits", () => this.#spawn(command), {
      documentSelector: selector(),
      initializationOptions: serverSettings(),
      outputChannel: this.#log,
      traceOutputChannel: this.#log,
      revealOutputChannelOn: RevealOutputChannelOn.Never,
      markdown: { isTrusted: { enabledCommands: LINKED_COMMANDS }, supportHtml: false },
      middleware: {
        executeCommand: async (command, args, next) => {
          const result: unknown = await next(command, args);
          showResult(command, result).catch((error: unknown) => this.#log.error(sentenceOf(error)));
          return result;
        },
      },
      initializationFailedHandler: (error) => {
        throw error;
      },
      errorHandler: {
        error: () => ({ action: ErrorAction.Continue, handled: true }),
        closed: () => {
          if (this.#client === client) this.#ended("The language server ended by itself.");
          return { action: CloseAction.DoNotRestart, handled: true };
        },
      },
    });
    return client;
  }

  /** The process; the last it says on stderr may say why it ended. */
  async #spawn(command: string): Promise<ChildProcess> {
    const cwd = vscode.workspace.workspaceFolders?.[0]?.uri.fsPath;
    const child = spawn(command, ["lsp"], { ...(cwd === undefined ? {} : { cwd }), stdio: "pipe" });
    this.#lastWords = [];
    child.stderr.on("data", (data: Buffer) => {
      this.#lastWords = [...this.#lastWords, ...data.toString("utf8").split("\n")]
        .filter(Boolean)
        .slice(-LAST_WORDS);
    });
    await once(child, "spawn");
    return child;
  }

  /** The server ended: say why, and try again later. */
  #ended(sentence: string): void {
    this.#client = null;
    const retryInMs = this.#backoff.ended(Date.now() - this.#startedAt);
    const words = this.#lastWords.at(-1);
    const why = words === undefined ? sentence : `${sentence} Its last words: ${words}`;
    this.#log.error(`${why} Starting it again in ${retryInMs / 1000} s.`);
    this.#set({ state: "ended", sentence: why, retryInMs });
    if (this.#isWanted) this.#retry = setTimeout(() => void this.start(), retryInMs);
  }

  async stop(): Promise<void> {
    this.#isWanted = false;
    clearTimeout(this.#retry);
    const client = this.#client;
    this.#client = null;
    await client
      ?.stop()
      .catch((error: unknown) => this.#log.warn(`It did not end well: ${sentenceOf(error)}`));
  }

  async restart(): Promise<void> {
    await this.stop();
    this.#backoff.reset();
    await this.start();
  }

  /** Ask the server; throws a Refusal with a sentence for people. */
  async ask<M extends keyof Requests>(
    method: M,
    params: Requests[M]["params"],
    token?: vscode.CancellationToken,
  ): Promise<Requests[M]["result"]> {
    const client = this.#client;
    if (client === null) throw new Refusal(noServer(this.#link));
    try {
      // A token that is undefined would be sent as one more parameter.
      const result: unknown =
        token === undefined
          ? await client.sendRequest(method, params)
          : await client.sendRequest(method, params, token);
      return readResultOf(method, result);
    } catch (error) {
      const problem = error instanceof ShapeError ? misunderstood(method, error) : problemOf(error);
      if (problem !== null) throw new Refusal(problem);
      throw error;
    }
  }

  #heard<E extends keyof ToEditor>(event: E, params: unknown): void {
    try {
      (this.#events[event] as vscode.EventEmitter<ToEditor[E]>).fire(readNewsOf(event, params));
    } catch (error) {
      if (!(error instanceof ShapeError)) throw error;
      this.#log.error(sentenceOf(new Refusal(misunderstood(event, error))), error.message);
    }
  }

  tell<N extends keyof ToServer>(method: N, params: ToServer[N]): void {
    this.#client
      ?.sendNotification(method, params)
      .catch((error: unknown) => this.#log.debug(sentenceOf(error)));
  }

  async #tellSettings(): Promise<void> {
    await this.#client?.sendNotification("workspace/didChangeConfiguration", {
      settings: { circuit: serverSettings() },
    });
  }

  #set(link: Link): void {
    this.#link = link;
    this.#changed.fire(link);
  }

  dispose(): void {
    void this.stop();
    for (const disposable of this.#disposables) disposable.dispose();
    for (const emitter of Object.values(this.#events)) emitter.dispose();
    this.#changed.dispose();
  }
}

function isProgram(file: string): boolean {
  try {
    accessSync(file, constants.X_OK);
    return statSync(file).isFile();
  } catch {
    return false;
  }
}
