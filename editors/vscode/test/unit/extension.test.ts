// The extension's pure parts: finding the command, the next step, rows, heat, pages, endpoints.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { Backoff } from "../../src/extension/backoff";
import { refusedEndpoint, sshForward } from "../../src/extension/endpointText";
import { findCommand } from "../../src/extension/findCommand";
import { ALL_SHADES, legendText, legendTooltip, tokensByShade } from "../../src/extension/heatPlan";
import { statusOf } from "../../src/extension/nextStep";
import { savedPage, webviewHtml } from "../../src/extension/page";
import { misunderstood, problemOf, readNewsOf, readResultOf } from "../../src/extension/received";
import { cacheRows, circuitRows, jobRows, modelRows, type Row } from "../../src/extension/rows";
import type { Link } from "../../src/extension/server";
import type { DaemonStatus, Heat, JobInfo } from "../../src/protocol.generated";
import { meanAblated, meanAblation, nameOf, nodeNamed } from "../../src/shared/nodes";
import { bytes, SHADES, shadeOf, shadeOfLevel, short, signed, strongestOf } from "../../src/shared/scale";
import { ShapeError } from "../../src/shared/shape";
import { info } from "./circuits";

const AROUND = {
  setting: "",
  folders: ["/home/me/one", "/home/me/two"],
  searchPath: "/usr/bin:relative:/opt/bin",
  home: "/home/me",
};
const only =
  (...files: readonly string[]) =>
  (file: string) =>
    files.includes(file);

test("a server of another version is told by the first field that is not what was declared", () => {
  const changed = { what: ["circuits"] };
  assert.deepEqual(readNewsOf("circuit/catalogueChanged", changed), changed);
  const isNamed = (error: unknown) => {
    assert.ok(error instanceof ShapeError);
    const { found, hint } = misunderstood("circuit/models/list", error);
    return /ModelList\.models/.test(found ?? "") && /another version/.test(hint ?? "");
  };
  assert.throws(() => readResultOf("circuit/models/list", { models: 7 }), isNamed);
  assert.throws(() => readResultOf("circuit/models/list", {}), isNamed);
  assert.throws(() => readNewsOf("circuit/catalogueChanged", { what: ["dreams"] }), ShapeError);
});

test("a saved page has the colours of heat that the extension contributes", () => {
  const manifest = JSON.parse(readFileSync("package.json", "utf8")) as {
    contributes: { colors: { id: string; defaults: { light: string; dark: string } }[] };
  };
  const [light = "", dark = ""] = readFileSync("src/panel/page.css", "utf8").split("@media");
  for (const { id, defaults } of manifest.contributes.colors) {
    const variable = (color: string) => `--vscode-${id.replace(".", "-")}: ${color};`;
    assert.ok(light.includes(variable(defaults.light)), `${id} in the light`);
    assert.ok(dark.includes(variable(defaults.dark)), `${id} in the dark`);
  }
});

test("of an error only what the server declares is taken for a problem", () => {
  const problem = misunderstood("x", new ShapeError("here", "a number", "seven"));
  assert.deepEqual(problemOf({ code: -33000, data: problem }), problem);
  for (const error of [null, new Error("gone"), { data: { message: "alone" } }, { data: 3 }])
    assert.equal(problemOf(error), null);
});

test("the command is the setting's, the workspace's own, else the one on PATH", () => {
  const all = only(
    "/set/circuit",
    "/home/me/two/.venv/bin/circuit",
    "/opt/bin/circuit",
    "relative/circuit",
    "/home/me/c",
    "/home/me/one/env/circuit",
  );
  assert.deepEqual(findCommand({ ...AROUND, isProgram: all }), {
    path: "/home/me/two/.venv/bin/circuit",
    by: "workspace",
  });
  assert.deepEqual(findCommand({ ...AROUND, setting: "/set/circuit", isProgram: all }), {
    path: "/set/circuit",
    by: "setting",
  });
  assert.deepEqual(findCommand({ ...AROUND, setting: "~/c", isProgram: all }), {
    path: "/home/me/c",
    by: "setting",
  });
  // biome-ignore lint/suspicious/noTemplateCurlyInString: that is what users write in settings
  const inFolder = { ...AROUND, setting: "${workspaceFolder}/env/circuit", isProgram: all };
  assert.deepEqual(findCommand(inFolder), { path: "/home/me/one/env/circuit", by: "setting" });
  assert.deepEqual(findCommand({ ...AROUND, isProgram: only("/opt/bin/circuit") }), {
    path: "/opt/bin/circuit",
    by: "PATH",
  });
});

test("a command that is not there is said, with what to do, and nothing else is tried", () => {
  const nowhere = findCommand({ ...AROUND, isProgram: only("relative/circuit") });
  assert.ok(nowhere.path === null && nowhere.hint.includes("pip install"));
  const wrong = findCommand({ ...AROUND, setting: "/typo", isProgram: only("/opt/bin/circuit") });
  assert.ok(wrong.path === null && wrong.sentence.includes("/typo"));
});

test("a server that keeps ending is started ever later, and one that was well at once", () => {
  const backoff = new Backoff();
  assert.deepEqual(
    [0, 0, 0].map((life) => backoff.ended(life)),
    [1000, 2000, 4000],
  );
  for (let i = 0; i < 20; i++) backoff.ended(0);
  assert.equal(backoff.ended(0), 60_000);
  assert.equal(backoff.ended(3_600_000), 1000);
  backoff.ended(0);
  backoff.reset();
  assert.equal(backoff.ended(0), 1000);
});

const DAEMON: DaemonStatus = {
  state: "connected",
  sentence: "Connected.",
  hint: null,
  host: "box",
  endpoint: "ipc:///run/c.sock",
  server: "circuitd 0.1.0",
  protocolVersion: "1.0",
  instance: "x",
  pid: 1,
  session: "editor",
  model: "tiny",
  canStart: true,
  clients: 1,
  queued: 0,
  running: 0,
  jobsUnfinished: 0,
  usedNbytes: 0,
  budgetNbytes: 0,
  resident: [],
};

test("every state offers a next step, the best one first", () => {
  const first: [Link, string][] = [
    [{ state: "untrusted" }, "workbench.trust.manage"],
    [{ state: "missing", sentence: "None.", hint: "Install." }, "circuits.openSettings"],
    [{ state: "starting" }, "circuits.openSettings"],
    [{ state: "ended", sentence: "It ended.", retryInMs: 4000 }, "circuits.restartServer"],
    [{ state: "running", daemon: null }, "circuits.openSettings"],
    [{ state: "running", daemon: DAEMON }, "circuits.openPanel"],
    [{ state: "running", daemon: { ...DAEMON, state: "absent" } }, "circuits.startDaemon"],
    [
      { state: "running", daemon: { ...DAEMON, state: "absent", canStart: false } },
      "circuits.chooseEndpoint",
    ],
    [{ state: "running", daemon: { ...DAEMON, state: "off" } }, "circuits.reconnect"],
    [{ state: "running", daemon: { ...DAEMON, state: "refused" } }, "circuits.chooseEndpoint"],
    [{ state: "running", daemon: { ...DAEMON, state: "incompatible" } }, "circuits.chooseEndpoint"],
    [{ state: "running", daemon: { ...DAEMON, state: "connecting" } }, "circuits.chooseEndpoint"],
  ];
  for (const [link, command] of first) {
    const { steps, text, tooltip } = statusOf(link);
    assert.equal(steps[0]?.command, command, JSON.stringify(link));
    assert.ok(text !== "" && tooltip !== "");
    assert.ok(steps.some((step) => step.command === "circuits.openDocs"));
  }
});

function allRows(rows: readonly Row[]): Row[] {
  return rows.flatMap((row) => [row, ...allRows(row.children ?? [])]);
}

test("rows have ids of their own, which stay when numbers change", () => {
  const circuits = [
    info(),
    info({ id: "b", label: "20", k: 20 }),
    info({ id: "c", task: "brackets" }),
    info({ id: "d", model: "other" }),
  ];
  const rows = allRows(circuitRows(circuits));
  assert.equal(new Set(rows.map((row) => row.id)).size, rows.length);
  const later = allRows(circuitRows(circuits.map((x) => ({ ...x, loss: 9, verdict: "supported" }))));
  assert.deepEqual(
    later.map((row) => row.id),
    rows.map((row) => row.id),
  );
});

test("one model needs no level of its own, and a task's circuits come smallest first", () => {
  const rows = circuitRows([
    info({ k: 30, label: "30" }),
    info({ k: 4, label: "4" }),
    info({ task: "brackets" }),
  ]);
  assert.deepEqual(
    rows.map((row) => row.label),
    ["brackets", "quotes"],
  );
  assert.deepEqual(
    rows[1]?.children?.map((row) => row.label),
    ["k 4", "k 30"],
  );
});

test("what is broken says so and cannot be opened", () => {
  const [row] = circuitRows([info({ broken: "details.json is missing" })])[0]?.children ?? [];
  assert.equal(row?.command, undefined);
  assert.match(row?.tooltip ?? "", /details\.json is missing/);
  const model = {
    name: "m",
    nLayer: 1,
    dModel: 8,
    nNodes: 9,
    nbytesOnDisk: 1000,
    isDefault: false,
    resident: null,
    broken: "no weights",
  };
  assert.equal(modelRows([model])[0]?.context, "broken");
});

test("a running job shows how far it is and can be cancelled; its finds can be opened", () => {
  const job: JobInfo = {
    job: "j1",
    kind: "prune",
    description: "prune quotes",
    state: "running",
    createdAtS: 0,
    finishedAtS: null,
    done: 50,
    total: 200,
    problem: null,
    stage: "learning",
    etaS: 3,
    loss: 0.2,
    k: 40,
    circuits: [],
    verdict: null,
  };
  const [running] = jobRows([job]);
  assert.equal(running?.context, "job-open");
  assert.equal(running?.description, "running · 25.0% · learning · loss 0.200 · k 40");
  const [done] = jobRows([{ ...job, state: "done", circuits: ["quotes/found/40"] }]);
  assert.equal(done?.children?.[0]?.command?.command, "circuits.openCircuit");
  assert.equal(cacheRows([])[0], undefined);
});

const token = (level: number, line = 0) => ({
  range: { start: { line, character: 0 }, end: { line, character: 1 } },
  value: level,
  level,
  nTokens: 1,
});

test("a level that is not zero has a shade, and stronger ones no weaker", () => {
  let before = 0;
  for (let level = 1; level <= 9; level++) {
    const shade = shadeOfLevel(level);
    assert.ok(shade >= Math.max(1, before) && shade <= SHADES);
    assert.equal(shadeOfLevel(-level), -shade);
    before = shade;
  }
  assert.equal(before, SHADES);
  const found = tokensByShade([token(0), token(9), token(-9), token(9, 1)]);
  assert.deepEqual([...found.keys()].sort(), [-SHADES, SHADES]);
  assert.equal(found.get(SHADES)?.length, 2);
  assert.equal(new Set(ALL_SHADES).size, 2 * SHADES);
});

test("the legend says what is shown, on which scale, and why not", () => {
  const heat: Heat = {
    uri: "file:///a.py",
    version: 1,
    state: "fresh",
    choice: { of: "loss" },
    interventions: [],
    model: "tiny",
    tokens: [],
    scale: { kind: "sequential", limit: 8.25, unit: "nats" },
    covered: null,
    isWhole: true,
    nTokensLeftOut: 0,
    note: null,
    meanLoss: 2.5,
    computeS: 0,
  };
  assert.equal(legendText(heat), "$(paintcan) loss 0 … 8.25 nats");
  assert.equal(legendText({ ...heat, state: "off" }), "");
  const node = { site: "0.attn.v", channel: 3 };
  const diverging = {
    ...heat,
    choice: { of: "node" as const, node },
    scale: { kind: "diverging" as const, limit: 2, unit: "" },
  };
  assert.equal(legendText(diverging), "$(paintcan) 0.attn.v[3] −2 … 2");
  assert.match(legendTooltip({ ...heat, note: "too long" }), /Mean loss: 2\.500[\s\S]*too long/);
});

test("a saved page may run nothing but itself, and its data cannot end its script", () => {
  const assets = { script: 'const a = "</script><!--";', style: "p { color: red }", pageStyle: "" };
  const page = savedPage("a < b", JSON.stringify({ text: "</script><script>alert(1)</script>" }), assets);
  assert.equal(page.match(/<\/script>/g)?.length, 2);
  assert.equal(page.match(/<script/g)?.length, 2);
  assert.match(page, /default-src 'none'/);
  assert.doesNotMatch(page, /unsafe-inline|https?:\/\/(?!www\.w3\.org)/);
  assert.match(page, /<title>a &lt; b<\/title>/);
});

test("a webview's policy names a fresh nonce and nothing unsafe", () => {
  const [one, two] = [webviewHtml("s.js", "s.css", "vscode:"), webviewHtml("s.js", "s.css", "vscode:")];
  const nonce = (html: string) => /script-src 'nonce-([^']+)'/.exec(html)?.[1];
  assert.ok(nonce(one) !== undefined && nonce(one) !== nonce(two));
  assert.ok(one.includes(`<script nonce="${nonce(one)}"`));
  assert.doesNotMatch(one, /unsafe/);
});

test("endpoints that cannot be are refused while they are typed", () => {
  for (const good of ["ipc:///tmp/a.sock"]) assert.equal(refusedEndpoint(good, "ipc://"), null);
  for (const good of ["tcp://box:7557", "tcp://[::1]:80", " tcp://10.0.0.1:1 "])
    assert.equal(refusedEndpoint(good, "tcp://"), null);
  for (const bad of ["", "/tmp/a", "ipc://relative", `ipc:///${"x".repeat(120)}`])
    assert.ok(refusedEndpoint(bad, "ipc://"));
  for (const bad of ["tcp://box", "tcp://box:0", "tcp://box:99999", "tcp://a b:1", "http://box:1"])
    assert.ok(refusedEndpoint(bad, "tcp://"));
});

test("what a user types reaches the shell as one word", () => {
  assert.equal(
    sshForward("me@box", "/run/c.sock", "/tmp/l.sock"),
    "rm -f /tmp/l.sock; ssh -N -o ExitOnForwardFailure=yes -L /tmp/l.sock:/run/c.sock me@box",
  );
  assert.match(sshForward("box; rm -rf ~", "/r", "/l"), / 'box; rm -rf ~'$/);
  assert.match(sshForward("-oProxyCommand=x", "/r", "/l"), / '-oProxyCommand=x'$/);
});

test("nodes keep their names, also as the session's ablations", () => {
  const nodes = [
    { site: "2.mlp.post_act", channel: 17 },
    { site: "final_resid", channel: 0 },
  ];
  for (const node of nodes) assert.deepEqual(nodeNamed(nameOf(node)), node);
  assert.deepEqual(meanAblated(nodes.map(meanAblation)), nodes);
  assert.deepEqual(meanAblated(["zero:a[1]", "mean:*.attn.v{head 3}", "mean:x[1]@-1", "mean:b[1,2]"]), [
    { site: "b", channel: 1 },
    { site: "b", channel: 2 },
  ]);
  for (const bad of ["a", "a[]", "a[1", "a[1] b[2]", "a[x]"]) assert.equal(nodeNamed(bad), undefined);
});

test("numbers are short, with a sign that is not a hyphen", () => {
  assert.deepEqual([0, 1234.5, -0.00012, 0.5].map(short), ["0", "1230", "−1.2e−4", "0.5"]);
  assert.deepEqual([0.1234, -0.1, -0.00001].map(signed), ["+0.123", "−0.100", "+0.000"]);
  assert.deepEqual([999, 2.7e6, 145_200_000].map(bytes), ["999 B", "2.7 MB", "145 MB"]);
  assert.equal(shadeOf(Number.NaN, 1) || 0, 0);
  assert.equal(strongestOf([0, null, -3, 2]), 2);
  assert.equal(strongestOf([0, null]), -1);
});
