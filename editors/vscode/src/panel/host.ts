// Whom the panel asks: the extension over messages, or, in a saved page, the snapshot in the page.

import {
  type Ask,
  type Border,
  type FromPanel,
  type ParamsOf,
  type ResultOf,
  readFromExtension,
  readNews,
  readResult,
  readSnapshot,
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

/** What a saved page holds; it can be looked at, and nothing computed. */
export class PageHost implements Host {
  readonly isLive = false;
  readonly snapshot: Border<"Snapshot">;
  #show: Listener<"show"> = () => {};

  constructor(data: string) {
    this.snapshot = readSnapshot(JSON.parse(data));
  }

  async ask<M extends Ask>(method: M, params: ParamsOf<M>): Promise<ResultOf<M>> {
    const found = await this.#look(method, params as Record<string, unknown>);
    if (found === undefined) throw new Refused("This page was saved without that.", "Ask a running daemon.");
    return readResult(method, found);
  }

  on<E extends Tell>(event: E, listener: Listener<E>): void {
    if (event === "show") this.#show = listener as unknown as Listener<"show">;
  }

  ready(): void {
    this.#show({ circuit: this.snapshot.circuit });
  }

  restore(): unknown {
    return undefined;
  }

  keep(): void {}

  async #look(method: Ask, params: Record<string, unknown>): Promise<unknown> {
    const { graphs, masks, samples } = this.snapshot;
    switch (method) {
      case "panel/save":
        download(params as unknown as Border<"SaveParams">);
        return { path: null };
      case "panel/copy":
        await navigator.clipboard.writeText(String(params.text));
        return {};
      case "circuit/circuits/list":
        return { circuits: graphs.map((graph) => graph.info) };
      case "circuit/circuits/show":
        return graphs.find((graph) => graph.info.id === params.circuit);
      case "circuit/circuits/masks":
        return masks[0];
      case "circuit/node/samples": {
        const node = params.node as { site: string; channel: number };
        return samples.find((x) => x.node.site === node.site && x.node.channel === node.channel);
      }
      default:
        return undefined;
    }
  }
}

/** What a browser does with a file that was made in the page. */
function download({ fileName, text, base64 }: Border<"SaveParams">): void {
  const bytes = base64 === null ? (text ?? "") : Uint8Array.from(atob(base64), (c) => c.charCodeAt(0));
  const url = URL.createObjectURL(new Blob([bytes]));
  const link = document.createElement("a");
  link.href = url;
  link.download = fileName;
  link.click();
  URL.revokeObjectURL(url);
}
