// Values from outside, checked against their declared shape before anything looks at them.
//
// The shapes of the language server's messages are generated; those that only panel and extension
// exchange are declared in contract.ts, in the same form. The static type follows from the shape,
// so what is checked and what is believed cannot drift apart.

/** A type at run time. `struct` names an entry of a table of structs. */
export type Shape =
  | "string"
  | "number"
  | "boolean"
  | "null"
  | { readonly literal: string | number }
  | { readonly struct: string }
  | { readonly list: Shape }
  | { readonly tuple: readonly Shape[] }
  | { readonly any: readonly Shape[] };

export interface Field {
  readonly type: Shape;
  readonly optional?: boolean;
}

/** Structs by name, each a map from field to shape. */
export type Structs = { readonly [name: string]: { readonly [field: string]: Field } };

/** The static type of shape `S`, its structs taken from table `T`. */
export type TypeOf<T extends Structs, S> = S extends "string"
  ? string
  : S extends "number"
    ? number
    : S extends "boolean"
      ? boolean
      : S extends "null"
        ? null
        : S extends { readonly literal: infer L }
          ? L
          : S extends { readonly struct: infer N extends keyof T }
            ? StructOf<T, N>
            : S extends { readonly list: infer E }
              ? readonly TypeOf<T, E>[]
              : S extends { readonly tuple: infer E extends readonly unknown[] }
                ? { readonly [I in keyof E]: TypeOf<T, E[I]> }
                : S extends { readonly any: infer E extends readonly unknown[] }
                  ? TypeOf<T, E[number]>
                  : never;

type OptionalFields<F> = {
  [K in keyof F]: F[K] extends { readonly optional: true } ? K : never;
}[keyof F];

/** The static type of struct `N` of table `T`. */
export type StructOf<T extends Structs, N extends keyof T> = {
  readonly [K in Exclude<keyof T[N], OptionalFields<T[N]>>]: TypeOf<T, T[N][K]["type"]>;
} & {
  readonly [K in OptionalFields<T[N]>]?: TypeOf<T, T[N][K & keyof T[N]]["type"]>;
};

/** A value is not what was declared; the message says where, what was due and what was found. */
export class ShapeError extends Error {
  constructor(where: string, due: string, found: unknown) {
    super(`${where}: ${due} was due, found ${described(found)}`);
    this.name = "ShapeError";
  }
}

/** `value` as struct `name`; throws ShapeError at the first place that is something else. */
export function readStruct<T extends Structs, N extends keyof T & string>(
  structs: T,
  name: N,
  value: unknown,
): StructOf<T, N> {
  check(structs, { struct: name }, value, name);
  return value as StructOf<T, N>;
}

function check(structs: Structs, shape: Shape, value: unknown, where: string): void {
  if (typeof shape === "string") {
    const found = value === null ? "null" : typeof value;
    // JSON has no NaN and no infinity, but structured clones do: a number here is a finite one.
    if (found !== shape || (found === "number" && !Number.isFinite(value))) {
      throw new ShapeError(where, `a ${shape}`, value);
    }
  } else if ("literal" in shape) {
    if (value !== shape.literal) throw new ShapeError(where, JSON.stringify(shape.literal), value);
  } else if ("list" in shape) {
    if (!Array.isArray(value)) throw new ShapeError(where, "a list", value);
    for (const [i, item] of value.entries()) check(structs, shape.list, item, `${where}[${i}]`);
  } else if ("tuple" in shape) {
    const n = shape.tuple.length;
    if (!Array.isArray(value) || value.length !== n) {
      throw new ShapeError(where, `a list of ${n}`, value);
    }
    for (const [i, part] of shape.tuple.entries()) check(structs, part, value[i], `${where}[${i}]`);
  } else if ("any" in shape) {
    checkAny(structs, shape.any, value, where);
  } else {
    checkStruct(structs, shape.struct, value, where);
  }
}

function checkAny(structs: Structs, shapes: readonly Shape[], value: unknown, where: string): void {
  let deepest: ShapeError | undefined;
  for (const shape of shapes) {
    try {
      check(structs, shape, value, where);
      return;
    } catch (error) {
      if (!(error instanceof ShapeError)) throw error;
      // Of a struct or nothing, what is wrong inside the struct says more.
      if (deepest === undefined || !error.message.startsWith(`${where}:`)) deepest = error;
    }
  }
  throw deepest?.message.startsWith(`${where}:`) === false
    ? deepest
    : new ShapeError(where, shapes.map(named).join(" or "), value);
}

function checkStruct(structs: Structs, name: string, value: unknown, where: string): void {
  const fields = structs[name];
  if (fields === undefined) throw new Error(`no struct is called ${name}`);
  if (typeof value !== "object" || value === null || Array.isArray(value)) {
    throw new ShapeError(where, `a ${name}`, value);
  }
  // Fields that are not declared are left alone: a newer server may say more.
  const found = value as Record<string, unknown>;
  for (const [field, { type, optional }] of Object.entries(fields)) {
    const inner = found[field];
    if (inner === undefined && optional) continue;
    check(structs, type, inner, `${where}.${field}`);
  }
}

function named(shape: Shape): string {
  if (typeof shape === "string") return shape;
  if ("literal" in shape) return JSON.stringify(shape.literal);
  if ("struct" in shape) return shape.struct;
  return "any" in shape ? shape.any.map(named).join(" or ") : "a list";
}

function described(value: unknown): string {
  if (value === undefined) return "nothing";
  const text = JSON.stringify(value) ?? String(value);
  return text.length > 60 ? `${text.slice(0, 57)}…` : text;
}
