// Whom the panel asks, and in VS Code that is the extension, over messages.

import {
  type Ask,
  type FromPanel,
  type ParamsOf,
  type ResultOf,
  readFromExtension,
  readNews,
  readResult,
  type Tell,
  type Told,
} from "../shared/contract";

/** A question that failed: for people, with what to do. */
export class Refused extends Error {
  constructor(
    message: string,
    readonly hint: string | null = null,
  ) {
    super(message);
    this.name = "Refused";
  }
}

/** A failure in a sentence or two for people. */
export function sentenceOf(error: unknown): string {
  if (error instanceof Refused) return error.hint === null ? error.message : `${error.message} ${error.hint}`;
  return error instanceof Error ? error.message : String(error);
}

/** Takes news of one kind. */
export type Listener<E extends Tell> = (news: Told<E>) => void;

export interface Host {
  /** Whether there is a daemon behind it that computes and a session to move. */
  readonly isLive: boolean;
  ask<M extends Ask>(method: M, params: ParamsOf<M>, signal?: AbortSignal): Promise<ResultOf<M>>;
  on<E extends Tell>(event: E, listener: Listener<E>): void;
  /** All listeners are there: begin. */
  ready(): void;
  /** What was kept of a panel that was closed or reloaded. */
  restore(): unknown;
  keep(state: unknown): void;
}

interface VsCodeApi {
  postMessage(message: FromPanel): void;
  getState(): unknown;
  setState(state: unknown): void;
}
declare function acquireVsCodeApi(): VsCodeApi;

/** The extension's side of the contract, in VS Code. */
export class ExtensionHost implements Host {
  readonly isLive = true;
  readonly #api = acquireVsCodeApi();
  readonly #waiting = new Map<
    number,
    { method: Ask; resolve(result: unknown): void; reject(why: Error): void }
  >();
  readonly #listeners = new Map<Tell, (news: unknown) => void>();
  #count = 0;

  constructor() {
    window.addEventListener("message", (event) => this.#arrived(event.data));
  }

  ask<M extends Ask>(method: M, params: ParamsOf<M>, signal?: AbortSignal): Promise<ResultOf<M>> {
    const id = ++this.#count;
    return new Promise<ResultOf<M>>((resolve, reject) => {
      this.#waiting.set(id, { method, resolve: (result) => resolve(result as ResultOf<M>), reject });
      signal?.addEventListener("abort", () => {
        if (!this.#waiting.delete(id)) return;
        this.#api.postMessage({ kind: "cancel", id });
        reject(new DOMException("cancelled", "AbortError"));
      });
      this.#api.postMessage({ kind: "ask", id, method, params });
    });
  }

  on<E extends Tell>(event: E, listener: Listener<E>): void {
    this.#listeners.set(event, (data) => listener(readNews(event, data)));
  }

  ready(): void {
    this.#api.postMessage({ kind: "ready" });
  }

  restore(): unknown {
    return this.#api.getState();
  }

  keep(state: unknown): void {
    this.#api.setState(state);
  }

  #arrived(data: unknown): void {
    const message = readFromExtension(data);
    if (message.kind === "news") {
      this.#listeners.get(message.event)?.(message.data);
      return;
    }
    const asked = this.#waiting.get(message.id);
    if (asked === undefined) return; // it was cancelled
    this.#waiting.delete(message.id);
    if (message.kind === "failure") {
      asked.reject(new Refused(message.message, message.hint));
      return;
    }
    try {
      asked.resolve(readResult(asked.method, message.result));
    } catch (error) {
      asked.reject(error as Error);
    }
  }
}
