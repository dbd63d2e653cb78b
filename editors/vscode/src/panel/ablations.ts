// The nodes that are off: which, and what that does to the circuit. The newest question counts.

import type { CircuitGraph, EditResult, Node } from "../protocol.generated";
import { indexOf, meanAblated, meanAblation, nameOf } from "../shared/nodes";
import type { Effect } from "./heading";
import { type Host, sentenceOf } from "./host";

export class Ablations {
  readonly #host: Host;
  readonly #changed: () => void;
  #nodes: readonly Node[] = [];
  #effect: Effect = null;
  #asking: AbortController | null = null;

  /** `changed` is called when there is something new to show. */
  constructor(host: Host, changed: () => void) {
    this.#host = host;
    this.#changed = changed;
  }

  get nodes(): readonly Node[] {
    return this.#nodes;
  }

  get effect(): Effect {
    return this.#effect;
  }

  has(name: string): boolean {
    return this.#nodes.some((node) => nameOf(node) === name);
  }

  /** Other nodes; false where they are the same. */
  set(nodes: readonly Node[]): boolean {
    const isSame = nodes.map(nameOf).join() === this.#nodes.map(nameOf).join();
    this.#nodes = nodes;
    return !isSame;
  }

  /** The nodes with this one turned off, or on again. */
  toggled({ site, channel }: Node): Node[] {
    const name = nameOf({ site, channel });
    const rest = this.#nodes.filter((node) => nameOf(node) !== name);
    return this.has(name) ? rest : [...rest, { site, channel }];
  }

  /** The session's interventions with these nodes off; what others do there stays. */
  interventions(now: readonly string[]): string[] {
    const others = now.filter((words) => meanAblated([words]).length === 0);
    return [...others, ...this.#nodes.map(meanAblation)];
  }

  /** Measure `circuit` without them; null where there is nothing to measure, or it failed. */
  async measure(circuit: CircuitGraph | null, save = false): Promise<EditResult | null> {
    this.#asking?.abort();
    const mine = new AbortController();
    this.#asking = mine;
    this.#effect = null;
    this.#changed();
    if (circuit === null) return null;
    const own = indexOf(circuit);
    const drop = this.#nodes.filter((node) => own.has(nameOf(node)));
    if (drop.length === 0) return null;
    try {
      const params = { circuit: circuit.info.id, drop, save };
      const result = await this.#host.ask("circuit/circuits/edit", params, mine.signal);
      this.#effect = result;
      this.#changed();
      return result;
    } catch (error) {
      if (mine.signal.aborted) return null;
      this.complain(sentenceOf(error));
      return null;
    }
  }

  /** Say in place of an effect why there is none. */
  complain(sentence: string): void {
    this.#effect = sentence;
    this.#changed();
  }
}
