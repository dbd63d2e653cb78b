// What the language server says, checked before anything looks at it: it may be of another version.

import {
  COMMAND_RESULTS,
  type Commands,
  NEWS,
  type Problem,
  RESULTS,
  type Requests,
  STRUCTS,
  type ToEditor,
} from "../protocol.generated";
import { readStruct, type ShapeError } from "../shared/shape";

/** The result of a request; throws ShapeError. */
export function readResultOf<M extends keyof Requests>(method: M, result: unknown): Requests[M]["result"] {
  return readStruct(STRUCTS, RESULTS[method], result) as unknown as Requests[M]["result"];
}

/** The result of a command; throws ShapeError. */
export function readCommandResult<C extends keyof Commands>(
  command: C,
  result: unknown,
): Commands[C]["result"] {
  return readStruct(STRUCTS, COMMAND_RESULTS[command], result) as unknown as Commands[C]["result"];
}

/** A notification; throws ShapeError. */
export function readNewsOf<E extends keyof ToEditor>(event: E, params: unknown): ToEditor[E] {
  return readStruct(STRUCTS, NEWS[event], params) as unknown as ToEditor[E];
}

/** An error response's data, where it is what the server says of errors. */
export function problemOf(error: unknown): Problem | null {
  const data = (error as { readonly data?: unknown } | null)?.data;
  try {
    return readStruct(STRUCTS, "Problem", data) as unknown as Problem;
  } catch {
    return null; // an error of JSON-RPC itself, or of a server that is no longer there
  }
}

/** What is said where an answer was not what was declared. */
export function misunderstood(method: string, error: ShapeError): Problem {
  return {
    code: "malformed_message",
    message: "The language server's answer is not what this extension knows.",
    blame: "nobody",
    retry: false,
    asked: method,
    found: error.message,
    hint: "One of the two is of another version: update circuitd, or the extension.",
    nearest: [],
  };
}
