// The panel's end of the session: changes go out a moment later, together, and old news is left.

import type { CircuitInfo, SessionState } from "../protocol.generated";
import type { Border } from "../shared/contract";
import type { Host } from "./host";

type Patch = Border<"SessionPatch">;

/** The session hears of a node when the walk has paused for this long. */
const TELL_AFTER_MS = 60;

export class SessionLink {
  readonly #host: Host;
  readonly #failed: (why: unknown) => void;
  #state: SessionState | null = null;
  #patch: Patch = {};
  #timer: ReturnType<typeof setTimeout> | undefined;
  /** Own changes without an answer yet. */
  #nUnanswered = 0;

  constructor(host: Host, failed: (why: unknown) => void) {
    this.#host = host;
    this.#failed = failed;
  }

  get state(): SessionState | null {
    return this.#state;
  }

  /** Change the session for everybody, a moment from now. */
  tell(patch: Patch): void {
    this.#patch = { ...this.#patch, ...patch };
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.#send(), TELL_AFTER_MS);
  }

  /** Take news; false where it is older than what is known, or than what is on its way out. */
  heard(session: SessionState): boolean {
    const known = this.#state;
    if (known !== null && session.name === known.name && session.revision < known.revision) return false;
    this.#state = session;
    return this.#nUnanswered === 0 && Object.keys(this.#patch).length === 0;
  }

  #send(): void {
    const patch = this.#patch;
    this.#patch = {};
    this.#nUnanswered += 1;
    this.#host
      .ask("circuit/session/update", patch)
      .then((session) => {
        this.#state = session;
      }, this.#failed)
      .finally(() => {
        this.#nUnanswered -= 1;
      });
  }
}

/** Whether a session's `circuit` is this one: some name it by its id, others as task/sweep/label. */
export function isNamed(circuit: string, { id, task, sweep, label }: CircuitInfo): boolean {
  return circuit === id || circuit === `${task}/${sweep}/${label}`;
}
