// Where nodes are active, asked for once each; the question about the node before is withdrawn.
//
// The document and the task light up at once. Pretraining text takes seconds the first time, and
// comes after.

import type { CircuitInfo, Node, NodeSamples } from "../protocol.generated";
import { nameOf } from "../shared/nodes";
import { type Host, sentenceOf } from "./host";

export class Samples {
  readonly #host: Host;
  readonly #found = new Map<string, NodeSamples>();
  /** Why there is no more, by node. */
  readonly #problems = new Map<string, string>();
  #asking: { readonly key: string; readonly abort: AbortController } | null = null;

  constructor(host: Host) {
    this.#host = host;
  }

  /** What is known of a node in a circuit; `uri`: with the open document. */
  get(node: Node, circuit: string, uri: string | null): NodeSamples | null {
    return this.#found.get(keyOf(node, circuit, uri)) ?? null;
  }

  /** Why not more is known; null: it is on its way, or known. */
  problem(node: Node, circuit: string, uri: string | null): string | null {
    return this.#problems.get(keyOf(node, circuit, uri)) ?? null;
  }

  /** All that is known of nodes of `circuit`. */
  of(circuit: string): NodeSamples[] {
    return [...this.#found.values()].filter((samples) => samples.circuit === circuit);
  }

  /** Something that the user waits for comes first. What was asked for may be asked for again. */
  stop(): void {
    this.#asking?.abort.abort();
    this.#asking = null;
  }

  /** Ask for what is not known; `arrived` is called with each part, and where no more will come. */
  async load(node: Node, { id, task }: CircuitInfo, uri: string | null, arrived: () => void): Promise<void> {
    const key = keyOf(node, id, uri);
    if (isWhole(this.#found.get(key)) || this.#asking?.key === key) return;
    this.stop();
    const mine = { key, abort: new AbortController() };
    this.#asking = mine;
    this.#problems.delete(key);
    try {
      for (const part of this.#found.has(key) ? [{}] : [{ nWindows: 0 }, {}]) {
        const params = { node, circuit: id, task, uri, ...part };
        this.#found.set(key, await this.#host.ask("circuit/node/samples", params, mine.abort.signal));
        arrived();
      }
    } catch (error) {
      if (mine.abort.signal.aborted) return;
      this.#problems.set(key, sentenceOf(error));
      arrived();
    } finally {
      if (this.#asking === mine) this.#asking = null;
    }
  }
}

/** Whether pretraining text was looked at, too. */
function isWhole(samples: NodeSamples | undefined): boolean {
  return samples !== undefined && samples.mean !== null;
}

function keyOf(node: Node, circuit: string, uri: string | null): string {
  return `${circuit} ${nameOf(node)} ${uri ?? ""}`;
}
