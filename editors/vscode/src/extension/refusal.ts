// What went wrong, in sentences for people.

import type { Problem } from "../protocol.generated";
import type { Link } from "./server";

/** A request was refused; the message is for people. */
export class Refusal extends Error {
  constructor(readonly problem: Problem) {
    super(problem.message);
    this.name = "Refusal";
  }
}

/** A sentence for people of anything thrown. */
export function sentenceOf(error: unknown): string {
  if (error instanceof Refusal) {
    const { message, hint } = error.problem;
    return hint ? `${message} ${hint}` : message;
  }
  const text = error instanceof Error ? error.message : String(error);
  // An error of the server's own may bring a traceback along, which is for the log.
  return text.split("\n", 1)[0] ?? text;
}

/** What is answered in place of a server that is not there. */
export function noServer(link: Link): Problem {
  const sentence = {
    untrusted: "This workspace is not trusted, so no server is started.",
    missing: link.state === "missing" ? link.sentence : "",
    starting: "The language server is still starting.",
    ended: link.state === "ended" ? link.sentence : "",
    running: "The language server is not running.",
  }[link.state];
  const hint = link.state === "missing" ? link.hint : null;
  return {
    code: "unavailable",
    message: sentence,
    blame: "nobody",
    retry: true,
    asked: null,
    found: null,
    hint,
    nearest: [],
  };
}
