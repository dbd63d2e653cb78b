// Tests inside the real extension host: VS Code calls `run`, which writes what it found to a file.

import { writeFileSync } from "node:fs";
import { CONTRIBUTIONS } from "./contributions";
import { LIFE } from "./life";
import { MENUS } from "./menus";
import { TEXT } from "./text";

/** In this order, on one window and one daemon. */
const TESTS = { ...CONTRIBUTIONS, ...TEXT, ...MENUS, ...LIFE };

/** Called by VS Code. CIRCUIT_HOST_TESTS: a pattern, to run some only. */
export async function run(): Promise<void> {
  const results: { name: string; error: string | null; ms: number }[] = [];
  const figures: { [name: string]: number } = {};
  const wanted = new RegExp(process.env.CIRCUIT_HOST_TESTS ?? "");
  for (const [name, test] of Object.entries(TESTS).filter(([title]) => wanted.test(title))) {
    const began = Date.now();
    const error = await test(figures).then(
      () => null,
      (why: unknown) => (why instanceof Error ? (why.stack ?? why.message) : String(why)),
    );
    results.push({ name, error, ms: Date.now() - began });
  }
  const file = process.env.CIRCUIT_HOST_RESULTS;
  if (file === undefined) throw new Error("CIRCUIT_HOST_RESULTS does not say where results go");
  writeFileSync(file, JSON.stringify({ results, figures }));
}
