// The masks of a task's circuits across budgets, asked for once per task.

import type { CircuitInfo, MaskTable } from "../protocol.generated";
import { type Host, sentenceOf } from "./host";

export class Masks {
  readonly #host: Host;
  /** By model and task; null: on their way, a string: why there are none. */
  readonly #found = new Map<string, MaskTable | string | null>();

  constructor(host: Host) {
    this.#host = host;
  }

  get(info: CircuitInfo): MaskTable | string | null {
    return this.#found.get(keyOf(info)) ?? null;
  }

  /** Ask for them if nobody has; `arrived` is called when there is an answer. */
  load(info: CircuitInfo, arrived: () => void): void {
    const key = keyOf(info);
    if (this.#found.has(key)) return;
    this.#found.set(key, null);
    this.#host
      .ask("circuit/circuits/masks", { task: info.task, model: info.model })
      .catch(sentenceOf)
      .then((masks) => {
        this.#found.set(key, masks);
        arrived();
      });
  }

  /** Circuits were found or deleted: ask again. */
  forget(): void {
    this.#found.clear();
  }
}

function keyOf({ model, task }: CircuitInfo): string {
  return `${model} ${task}`;
}
