// The circuit that the one shown is compared with: asked for, and laid over it.

import type { CircuitGraph, Comparison } from "../protocol.generated";
import { type Union, unite } from "./compare";
import { type Host, sentenceOf } from "./host";

export class Comparing {
  readonly #host: Host;
  #asked = 0;
  #found: Comparison | string | null = null;

  constructor(host: Host) {
    this.#host = host;
  }

  /** What differs; null: not known yet, a string: why it cannot be said. */
  get found(): Comparison | string | null {
    return this.#found;
  }

  /** Nothing is compared now; what is on its way is not wanted. */
  stop(): void {
    this.#asked += 1;
    this.#found = null;
  }

  /** `shown` and the circuit `other` over each other; null where that failed, or is not wanted now. */
  async lay(other: string, shown: CircuitGraph): Promise<Union | null> {
    this.stop();
    const mine = this.#asked;
    try {
      const [before, comparison] = await Promise.all([
        this.#host.ask("circuit/circuits/show", { circuit: other }),
        this.#host.ask("circuit/circuits/compare", { before: other, after: shown.info.id }),
      ]);
      if (mine !== this.#asked) return null;
      this.#found = comparison;
      return unite(before, shown);
    } catch (error) {
      if (mine === this.#asked) this.#found = sentenceOf(error);
      return null;
    }
  }
}
