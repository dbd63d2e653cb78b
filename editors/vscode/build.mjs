// Bundles the extension and the panel into dist/; `--tests` the tests, too, `--production` smaller.

import { copyFile, readdir, rm } from "node:fs/promises";
import { build } from "esbuild";

const isProduction = process.argv.includes("--production");
const withTests = process.argv.includes("--tests");
if ((isProduction || withTests) && Number.parseInt(process.versions.node, 10) < 20) {
  console.error(
    `Packaging and testing take node 20 or newer, and this is ${process.versions.node}: \`make test\` installs one.`,
  );
  process.exit(1);
}
const common = { bundle: true, minify: isProduction, logLevel: "warning" };
const inNode = {
  ...common,
  platform: "node",
  target: "node20",
  format: "cjs",
  external: ["vscode"],
  sourcemap: !isProduction,
};
const inBrowser = { ...common, target: "es2022" };

await rm("dist", { recursive: true, force: true });
await Promise.all([
  build({ ...inNode, entryPoints: ["src/extension/extension.ts"], outfile: "dist/extension.js" }),
  build({ ...inBrowser, format: "iife", entryPoints: ["src/panel/main.ts"], outfile: "dist/panel.js" }),
  build({ ...inBrowser, entryPoints: ["src/panel/panel.css", "src/panel/page.css"], outdir: "dist" }),
]);

// A package carries the licence, which the repository has once.
if (isProduction) await copyFile("../../LICENSE", "LICENSE");

if (withTests) {
  await rm("build/tests", { recursive: true, force: true });
  const units = (await readdir("test/unit")).filter((name) => name.endsWith(".test.ts"));
  await Promise.all([
    build({ ...inNode, entryPoints: units.map((name) => `test/unit/${name}`), outdir: "build/tests/unit" }),
    build({ ...inNode, entryPoints: ["src/shared/python.ts"], outfile: "build/tests/python.js" }),
    build({ ...inNode, entryPoints: ["test/host/run.ts"], outfile: "build/tests/host/run.js" }),
    build({
      ...inNode,
      packages: "external",
      entryPoints: ["test/walk/walk.ts", "test/walk/visit.ts"],
      outdir: "build/tests/walk",
    }),
  ]);
}
