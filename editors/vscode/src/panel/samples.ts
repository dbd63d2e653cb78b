// Where nodes are active, asked for once each; the question about the node before is withdrawn.

import type { CircuitInfo, Node, NodeSamples } from "../protocol.generated";
import { nameOf } from "../shared/nodes";
import type { Host } from "./host";

export class Samples {
  readonly #host: Host;
  readonly #found = new Map<string, NodeSamples>();
  #asking: AbortController | null = null;

  constructor(host: Host) {
    this.#host = host;
  }

  /** What is known of a node in a circuit; `uri`: with the open document. */
  get(node: Node, circuit: string, uri: string | null): NodeSamples | null {
    return this.#found.get(keyOf(node, circuit, uri)) ?? null;
  }

  /** All that is known of nodes of `circuit`. */
  of(circuit: string): NodeSamples[] {
    return [...this.#found.values()].filter((samples) => samples.circuit === circuit);
  }

  /** Ask for it; false where it is known already, or another node was asked for meanwhile. */
  async load(node: Node, { id, task }: CircuitInfo, uri: string | null): Promise<boolean> {
    const key = keyOf(node, id, uri);
    if (this.#found.has(key)) return false;
    this.#asking?.abort();
    const mine = new AbortController();
    this.#asking = mine;
    try {
      const params = { node, circuit: id, task, uri };
      this.#found.set(key, await this.#host.ask("circuit/node/samples", params, mine.signal));
      return true;
    } catch (error) {
      if (mine.signal.aborted) return false;
      throw error;
    }
  }
}

function keyOf(node: Node, circuit: string, uri: string | null): string {
  return `${circuit} ${nameOf(node)} ${uri ?? ""}`;
}
