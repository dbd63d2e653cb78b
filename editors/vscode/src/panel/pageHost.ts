// Whom the panel asks in a saved page: the snapshot that the page holds.

import {
  type Ask,
  type Border,
  type ParamsOf,
  type ResultOf,
  readResult,
  readSnapshot,
  type Tell,
} from "../shared/contract";
import { differencesOf } from "./differences";
import { type Host, type Listener, Refused } from "./host";

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
      case "circuit/circuits/compare": {
        const [before, after] = [params.before, params.after].map((id) =>
          graphs.find((x) => x.info.id === id),
        );
        return before && after && differencesOf(before, after);
      }
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
