// How long to wait before a server that ended by itself is started again.

const FIRST_MS = 1000;
const LONGEST_MS = 60_000;
/** A server that lived this long was well: what happened before does not count. */
const WELL_AFTER_MS = 60_000;

export class Backoff {
  #nFailures = 0;

  /** It ended after `lifetimeMs`: how long to wait now. */
  ended(lifetimeMs: number): number {
    if (lifetimeMs >= WELL_AFTER_MS) this.#nFailures = 0;
    const wait = Math.min(LONGEST_MS, FIRST_MS * 2 ** this.#nFailures);
    this.#nFailures += 1;
    return wait;
  }

  /** Somebody asked for it: begin anew. */
  reset(): void {
    this.#nFailures = 0;
  }
}
