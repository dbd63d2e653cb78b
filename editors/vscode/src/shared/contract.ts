// What panel and extension say to each other: every message, checked on both sides of the border.
//
// The panel asks and is answered; most questions are the language server's own and pass through.
// The extension tells what happened. A message that is not of the declared shape is refused with a
// ShapeError that names the place; no other message exists.

import { type Requests, STRUCTS as SERVER_STRUCTS } from "../protocol.generated";
import { readStruct, type StructOf, type Structs } from "./shape";

const PANEL_STRUCTS = {
  /** Opens a file dialog; `base64` for what is no text. */
  SaveParams: {
    fileName: { type: "string" },
    text: { type: { any: ["string", "null"] } },
    base64: { type: { any: ["string", "null"] } },
  },
  /** Where it was saved; null: the dialog was dismissed. */
  Saved: { path: { type: { any: ["string", "null"] } } },
  /** Into the clipboard; `what` is said to the user. */
  CopyParams: { text: { type: "string" }, what: { type: "string" } },
  /** One of the few commands that the panel may have run. */
  RunParams: {
    command: {
      type: {
        any: [
          { literal: "circuits.nextStep" },
          { literal: "circuits.startDaemon" },
          { literal: "circuits.chooseEndpoint" },
          { literal: "circuits.showLog" },
          { literal: "circuits.openPanel" },
        ],
      },
    },
  },
  /** Colour the open document by a node. */
  NodeHeatParams: { node: { type: { struct: "Node" } }, circuit: { type: { any: ["string", "null"] } } },
  /** Everything that a panel without a daemon shows. `asOf` is a time in words. */
  Snapshot: {
    circuit: { type: "string" },
    asOf: { type: "string" },
    graphs: { type: { list: { struct: "CircuitGraph" } } },
    masks: { type: { list: { struct: "MaskTable" } } },
    samples: { type: { list: { struct: "NodeSamples" } } },
  },
  /** The circuit to look at; null: whatever the session says. */
  Show: { circuit: { type: { any: ["string", "null"] } } },
  /** The document and the token under the cursor, where the model reads it. */
  Focus: {
    uri: { type: { any: ["string", "null"] } },
    name: { type: { any: ["string", "null"] } },
    token: { type: { any: [{ struct: "TokenDetail" }, "null"] } },
  },
  /** Whether the panel wants to know the token under the cursor. */
  FollowParams: { on: { type: "boolean" } },
  Options: { edgesShown: { type: "number" } },
} as const satisfies Structs;

/** All structs that cross the border. */
export const BORDER = { ...SERVER_STRUCTS, ...PANEL_STRUCTS } as const satisfies Structs;
export type BorderName = keyof typeof BORDER & string;
export type Border<N extends BorderName> = StructOf<typeof BORDER, N>;

/** What the panel may ask: names of the structs of parameters and result. */
export const ASKS = {
  "circuit/status": ["Nothing", "DaemonStatus"],
  "circuit/session/get": ["Nothing", "SessionState"],
  "circuit/session/update": ["SessionPatch", "SessionState"],
  "circuit/circuits/list": ["CircuitFilter", "CircuitList"],
  "circuit/circuits/show": ["CircuitParams", "CircuitGraph"],
  "circuit/circuits/measure": ["CircuitParams", "CircuitGraph"],
  "circuit/circuits/masks": ["MasksParams", "MaskTable"],
  "circuit/circuits/edit": ["EditParams", "EditResult"],
  "circuit/circuits/compare": ["CompareParams", "Comparison"],
  "circuit/circuits/export": ["ExportParams", "Export"],
  "circuit/node/samples": ["SamplesParams", "NodeSamples"],
  "circuit/jobs/verify": ["VerifyParams", "JobInfo"],
  "panel/save": ["SaveParams", "Saved"],
  "panel/savePage": ["Snapshot", "Saved"],
  "panel/copy": ["CopyParams", "Nothing"],
  "panel/run": ["RunParams", "Nothing"],
  "panel/follow": ["FollowParams", "Nothing"],
  "panel/nodeHeat": ["NodeHeatParams", "Nothing"],
} as const satisfies { readonly [method: string]: readonly [BorderName, BorderName] };
export type Ask = keyof typeof ASKS;
export type ParamsOf<M extends Ask> = Border<(typeof ASKS)[M][0]>;
export type ResultOf<M extends Ask> = Border<(typeof ASKS)[M][1]>;
/** Questions that the language server answers. */
export type Forwarded = Ask & keyof Requests;

/** What the extension may tell. */
export const TELLS = {
  options: "Options",
  status: "DaemonStatus",
  session: "SessionState",
  catalogue: "CatalogueChanged",
  job: "JobInfo",
  focus: "Focus",
  show: "Show",
} as const satisfies { readonly [event: string]: BorderName };
export type Tell = keyof typeof TELLS;
export type Told<E extends Tell> = Border<(typeof TELLS)[E]>;

const ENVELOPES = {
  Ready: { kind: { type: { literal: "ready" } } },
  Question: {
    kind: { type: { literal: "ask" } },
    id: { type: "number" },
    method: { type: { any: Object.keys(ASKS).map((literal) => ({ literal })) } },
  },
  Cancel: { kind: { type: { literal: "cancel" } }, id: { type: "number" } },
  Answer: { kind: { type: { literal: "answer" } }, id: { type: "number" } },
  Failure: {
    kind: { type: { literal: "failure" } },
    id: { type: "number" },
    message: { type: "string" },
    hint: { type: { any: ["string", "null"] } },
  },
  News: {
    kind: { type: { literal: "news" } },
    event: { type: { any: Object.keys(TELLS).map((literal) => ({ literal })) } },
  },
} as const satisfies Structs;

/** From the panel. A question's parameters are read by `readParams`. */
export type FromPanel =
  | { readonly kind: "ready" }
  | { readonly kind: "ask"; readonly id: number; readonly method: Ask; readonly params: unknown }
  | { readonly kind: "cancel"; readonly id: number };

/** From the extension. Results and news are read by `readResult` and `readNews`. */
export type FromExtension =
  | { readonly kind: "answer"; readonly id: number; readonly result: unknown }
  | { readonly kind: "failure"; readonly id: number; readonly message: string; readonly hint: string | null }
  | { readonly kind: "news"; readonly event: Tell; readonly data: unknown };

const FROM_PANEL = { ready: "Ready", ask: "Question", cancel: "Cancel" } as const;
const FROM_EXTENSION = { answer: "Answer", failure: "Failure", news: "News" } as const;

/** An envelope from the panel; throws ShapeError. */
export function readFromPanel(message: unknown): FromPanel {
  return readStruct(ENVELOPES, FROM_PANEL[kindOf(message, FROM_PANEL)], message) as unknown as FromPanel;
}

/** An envelope from the extension; throws ShapeError. */
export function readFromExtension(message: unknown): FromExtension {
  const name = FROM_EXTENSION[kindOf(message, FROM_EXTENSION)];
  return readStruct(ENVELOPES, name, message) as unknown as FromExtension;
}

export function readParams<M extends Ask>(method: M, params: unknown): ParamsOf<M> {
  return readStruct<typeof BORDER, (typeof ASKS)[M][0]>(BORDER, ASKS[method][0], params);
}

export function readResult<M extends Ask>(method: M, result: unknown): ResultOf<M> {
  return readStruct<typeof BORDER, (typeof ASKS)[M][1]>(BORDER, ASKS[method][1], result);
}

export function readNews<E extends Tell>(event: E, data: unknown): Told<E> {
  return readStruct<typeof BORDER, (typeof TELLS)[E]>(BORDER, TELLS[event], data);
}

export function readSnapshot(value: unknown): Border<"Snapshot"> {
  return readStruct(BORDER, "Snapshot", value);
}

function kindOf<K extends object>(message: unknown, kinds: K): keyof K {
  const kind =
    typeof message === "object" && message !== null ? (message as { kind?: unknown }).kind : undefined;
  if (typeof kind === "string" && Object.hasOwn(kinds, kind)) return kind as keyof K;
  const due = Object.keys(kinds).map((name) => ({ literal: name }));
  readStruct({ Message: { kind: { type: { any: due } } } }, "Message", message ?? {});
  throw new Error(`no message is of kind ${String(kind)}`);
}
