// Conformance checks of a running circuitd: one JSON line per check, exit status 1 if any failed.
//
//   node conformance.mjs ENDPOINT [--server-key Z85 --public-key Z85 --secret-key Z85]

import assert from "node:assert/strict";
import { parseArgs } from "node:util";

import { encode } from "@msgpack/msgpack";

import { CircuitError, Connection, bytesOf, numbers, tokens, values, within } from "./client.mjs";

const { values: options, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    "server-key": { type: "string" },
    "public-key": { type: "string" },
    "secret-key": { type: "string" },
    only: { type: "string" },
  },
});
const [endpoint] = positionals;
const keys = options["server-key"]
  ? { server: options["server-key"], public: options["public-key"], secret: options["secret-key"] }
  : null;

const LINE = "def double(x):\n    return x * 2\n";
/** Long enough to be caught in the act, and never to be waited for. */
const LONG = { type: "ablate", input: { type: "task", task: "single_double_quote", n: 8 }, every: { of: "node" }, kind: "zero", use_cache: false };

let c; // the connection the checks share
let model;
let line; // the tokens of LINE

async function fails(promise, code) {
  const error = await promise.then(
    () => assert.fail(`expected ${code}, got an answer`),
    (e) => e,
  );
  assert.ok(error instanceof CircuitError, String(error));
  assert.equal(error.code, code, error.message);
  return error.info;
}

const forward = (fields = {}, frames = []) =>
  c.ask({ type: "forward", model, prompts: { tokens: tokens([line]) }, ...fields }, frames);
const hook = (record, fields = {}) =>
  c.ask({
    type: "hook",
    model,
    input: { type: "prompts", prompts: { tokens: tokens([line]) } },
    records: [record],
    ...fields,
  });
const close = (a, b, tolerance = 1e-5) =>
  assert.ok(Math.abs(a - b) <= tolerance * Math.max(1, Math.abs(a), Math.abs(b)), `${a} and ${b}`);

/** The first reply of a long request that proves it is running. */
async function running(request) {
  for (;;) {
    const { reply } = await request.next();
    assert.notEqual(reply.final, true);
    if (reply.type === "progress" || reply.type === "ablate.part") return;
  }
}

const checks = {
  async hello_welcomes() {
    const { welcome } = c;
    assert.equal(welcome.type, "welcome");
    assert.equal(welcome.version.split(".")[0], "1");
    assert.ok(welcome.instance);
    for (const limit of ["frame_nbytes", "message_nbytes", "frames", "rows", "queued_requests"]) {
      assert.ok(welcome.limits[limit] > 0, limit);
    }
    const again = await c.hello();
    assert.equal(again.instance, welcome.instance);
  },

  async hello_comes_first() {
    const other = new Connection(endpoint, keys);
    try {
      const info = await fails(other.ask({ type: "status" }), "invalid_request");
      assert.match(info.message, /hello/);
      await other.hello();
      assert.equal((await other.ask({ type: "status" })).reply.type, "status.report");
    } finally {
      other.close();
    }
  },

  async other_major_version_is_refused() {
    const other = new Connection(endpoint, keys);
    try {
      const info = await fails(other.hello(["2.0", "3.1"]), "unsupported_version");
      assert.equal(info.found, c.welcome.version);
      assert.equal((await other.hello(["7.0", "1.9"])).type, "welcome");
    } finally {
      other.close();
    }
  },

  async malformed_frame_is_answered() {
    const noise = [Buffer.alloc(0), Buffer.from("c1", "hex"), Buffer.from("GET / HTTP/1.1\r\n\r\n"), encode([1, 2]), encode({ type: "status" })];
    for (const header of noise) {
      await c.raw([header]);
      const reply = await within(c.unaddressed.take(), 30, "malformed frame");
      assert.equal(reply.type, "error");
      assert.match(reply.error.code, /^(malformed_message|invalid_request)$/);
    }
    assert.equal((await c.ask({ type: "status" })).reply.type, "status.report");
  },

  async nesting_without_end_is_answered() {
    const head = encode({ type: "status", x: 0 }).slice(0, -1);
    await c.raw([Buffer.concat([head, Buffer.alloc(100_000, 0x91), Buffer.from([0xc0])])]);
    const reply = await within(c.unaddressed.take(), 30, "nested frame");
    assert.equal(reply.error.code, "malformed_message");
  },

  async unknown_request_type_names_the_nearest() {
    const info = await fails(c.ask({ type: "forwrad" }), "invalid_request");
    assert.ok(info.nearest.includes("forward"));
  },

  async wrong_field_is_named() {
    const info = await fails(c.ask({ type: "forward", model, prompts: { texts: [1] } }), "invalid_request");
    assert.match(info.message, /prompts\.texts\[0\]/);
  },

  async unknown_fields_are_ignored() {
    assert.equal((await c.ask({ type: "status", mood: { good: [true] } })).reply.type, "status.report");
  },

  async status_tells_processes_and_limits() {
    const { reply } = await c.ask({ type: "status" });
    assert.equal(reply.instance, c.welcome.instance);
    assert.deepEqual(reply.processes.filter((p) => p.role === "front").map((p) => p.pid), [c.welcome.pid]);
    assert.ok(reply.clients >= 1);
    assert.ok(reply.endpoints.length >= 1);
  },

  async models_are_listed_and_described() {
    const { reply } = await c.ask({ type: "models.list" });
    const summary = reply.models.find((m) => m.name === model);
    assert.ok(summary && summary.n_layer > 0);
    const described = (await c.ask({ type: "models.describe", model })).reply;
    const config = JSON.parse(described.config_json);
    assert.equal(config.n_layer, summary.n_layer);
    const width = described.sites.filter((s) => s.is_node_site).reduce((n, s) => n + s.width, 0);
    assert.equal(width, described.n_nodes);
    assert.equal(described.n_nodes, summary.n_nodes);
  },

  async tokens_join_to_the_text() {
    const { reply } = await c.ask({ type: "tokenize", model, texts: [LINE, "é✓ # ok"] });
    for (const [i, text] of [LINE, "é✓ # ok"].entries()) {
      const row = reply.rows[i];
      assert.equal(Buffer.concat(row.map((t) => t.data)).toString("utf8"), text);
      let offset = 0;
      for (const token of row) {
        assert.equal(token.offset, offset);
        offset += token.data.length;
      }
    }
    const ids = reply.rows.map((row) => row.map((t) => t.id));
    const back = (await c.ask({ type: "detokenize", model, tokens: ids })).reply;
    assert.deepEqual(back.rows.map((r) => r.text), [LINE, "é✓ # ok"]);
  },

  async tasks_are_listed_shown_and_sampled() {
    const { reply } = await c.ask({ type: "tasks.list" });
    assert.ok(reply.tasks.length >= 20);
    const shown = (await c.ask({ type: "tasks.show", task: "bracket_counting", n: 2 })).reply;
    assert.equal(shown.pairs.length, 2);
    const sampled = await c.ask({ type: "tasks.sample", model, input: { type: "task", task: "bracket_counting", n: 4 } });
    const { tokens: rows, lengths, answers } = sampled.reply;
    assert.equal(rows.shape[0], 8);
    assert.deepEqual(lengths.shape, [8]);
    assert.deepEqual(answers.shape, [8, 2]);
    for (const length of values(lengths, sampled.frames)) assert.ok(length <= rows.shape[1]);
  },

  async logits_come_in_a_frame() {
    const { reply, frames } = await forward({ deliver: "inline" });
    const [rows, positions, vocab] = reply.logits.shape;
    assert.equal(rows, 1);
    assert.equal(positions, line.length);
    assert.equal(reply.logits.frame !== undefined, rows * positions * vocab * 4 > 512);
    const logits = values(reply.logits, frames);
    assert.ok(logits.every(Number.isFinite));
    assert.deepEqual(values(reply.tokens, frames), line);
    const last = await forward({ logits: "last", deliver: "inline" });
    assert.deepEqual(last.reply.logits.shape, [1, 1, vocab]);
    values(last.reply.logits, last.frames).forEach((x, i) => close(x, logits[(positions - 1) * vocab + i], 1e-4));
  },

  async tokens_may_come_inline_or_in_a_frame() {
    const frames = [];
    const prompts = { tokens: tokens([line], frames) };
    const framed = await c.ask({ type: "forward", model, prompts, logits: "last", use_cache: false }, frames);
    const inline = await forward({ logits: "last", use_cache: false });
    const texts = await forward({ prompts: { texts: [LINE] }, logits: "last", use_cache: false });
    for (const other of [inline, texts]) {
      assert.deepEqual(values(other.reply.logits, other.frames), values(framed.reply.logits, framed.frames));
    }
  },

  async losses_are_those_of_the_logits() {
    const { reply, frames } = await forward({ targets: "next", token_loss: true, deliver: "inline" });
    const [, positions, vocab] = reply.logits.shape;
    const logits = values(reply.logits, frames);
    const perToken = values(reply.token_loss, frames);
    let sum = 0;
    for (let t = 0; t + 1 < positions; t++) {
      const row = logits.slice(t * vocab, (t + 1) * vocab);
      const top = Math.max(...row);
      const loss = top + Math.log(row.reduce((s, x) => s + Math.exp(x - top), 0)) - row[line[t + 1]];
      close(perToken[t], loss, 1e-4);
      sum += loss;
    }
    assert.ok(Number.isNaN(perToken[positions - 1]));
    close(reply.loss, sum / (positions - 1), 1e-4);
  },

  async ragged_rows_are_computed_alone() {
    const short = line.slice(0, 5);
    const padded = [...short, ...Array(line.length - 5).fill(0)];
    const both = await c.ask({ type: "forward", model, prompts: { tokens: tokens([line, padded]), lengths: [line.length, 5] }, logits: "last", deliver: "inline" });
    const alone = await c.ask({ type: "forward", model, prompts: { tokens: tokens([short]) }, logits: "last", deliver: "inline" });
    const vocab = both.reply.logits.shape[2];
    const row = values(both.reply.logits, both.frames).slice(vocab);
    values(alone.reply.logits, alone.frames).forEach((x, i) => close(x, row[i], 1e-4));
  },

  async interventions_are_values() {
    const at = { site: "0.mlp.post_act" };
    const ask = async (interventions) => (await forward({ targets: "next", logits: "none", interventions })).reply.loss;
    const bare = await ask([]);
    const zero = await ask([{ op: "zero", ...at }]);
    close(await ask([{ op: "scale", ...at, factor: 0 }]), zero);
    close(await ask([{ op: "scale", ...at, factor: 1 }]), bare);
    close(await ask([{ op: "set", ...at, value: 3 }, { op: "zero", ...at }]), zero);
    assert.notEqual(zero, bare);
  },

  async recorded_values_come_back() {
    const { reply, frames } = await hook({ site: "*.resid_mid" }, { deliver: "inline" });
    const described = (await c.ask({ type: "models.describe", model })).reply;
    const wanted = described.sites.map((s) => s.site).filter((s) => s.endsWith(".resid_mid"));
    assert.deepEqual(reply.recorded.map((r) => r.site), wanted);
    for (const recorded of reply.recorded) {
      assert.deepEqual(recorded.value.shape.slice(0, 2), [1, line.length]);
      assert.ok(values(recorded.value, frames).every(Number.isFinite));
    }
  },

  async patching_a_run_with_itself_changes_nothing() {
    const { reply } = await hook({ site: "0.attn.resid_delta" }, { deliver: "handle" });
    const handle = reply.recorded[0].value;
    assert.equal(handle.type, "handle");
    const bare = (await forward({ targets: "next", logits: "none" })).reply.loss;
    const interventions = [{ op: "patch", site: "0.attn.resid_delta", values: handle }];
    close((await forward({ targets: "next", logits: "none", interventions })).reply.loss, bare);
  },

  async handle_is_fetched_by_chunks_with_credit() {
    const inline = await hook({ site: "0.resid_mid" }, { deliver: "inline", use_cache: false });
    const truth = bytesOf(inline.reply.recorded[0].value, inline.frames);
    const { reply } = await hook({ site: "0.resid_mid" }, { deliver: "handle", use_cache: false });
    const handle = reply.recorded[0].value;
    assert.equal(handle.nbytes, truth.length);
    assert.ok(handle.nbytes > 4 * 1024, "enough for several chunks");

    const fetch = c.begin({ type: "tensor.fetch", handle: handle.handle, chunk_nbytes: 1024, credit: 2 });
    const bytes = new Uint8Array(handle.nbytes);
    let offset = 0;
    for (const chunks of [2, 1, 1]) {
      for (let i = 0; i < chunks; i++) {
        const { reply: chunk, frames } = await fetch.next();
        assert.equal(chunk.offset, offset);
        assert.equal(chunk.nbytes, 1024);
        bytes.set(frames[0], offset);
        offset += chunk.nbytes;
      }
      await c.ask({ type: "status" }); // a whole round trip: what was sent before it has arrived
      assert.equal(fetch.unread, 0, "a chunk came without credit");
      if (offset < 4 * 1024) await c.credit(fetch, 1);
    }
    await c.credit(fetch, 4096);
    for (;;) {
      const { reply: chunk, frames, final } = await fetch.next();
      bytes.set(frames[0], chunk.offset);
      if (final) break;
    }
    assert.deepEqual(Buffer.from(bytes), Buffer.from(truth));
    assert.deepEqual(Buffer.from(await c.fetch(handle, { chunkNbytes: 2048 })), Buffer.from(truth));

    const part = await c.ask({ type: "tensor.fetch", handle: handle.handle, offset: 100, nbytes: 50 });
    assert.deepEqual(Buffer.from(part.frames[0]), Buffer.from(truth.slice(100, 150)));
    const none = await c.ask({ type: "tensor.fetch", handle: handle.handle, nbytes: 0 });
    assert.equal(none.reply.nbytes, 0);
    await fails(c.ask({ type: "tensor.fetch", handle: handle.handle, offset: handle.nbytes + 1 }), "invalid_request");
  },

  async held_tensor_is_reduced_and_released() {
    const { reply } = await hook({ site: "0.resid_mid" }, { deliver: "handle", use_cache: false });
    const handle = reply.recorded[0].value;
    const truth = numbers(await c.fetch(handle), handle.dtype);
    const [, , width] = handle.shape;
    const sliced = await c.ask({ type: "tensor.reduce", handle: handle.handle, how: "slice", slices: [[0, 1, null], [2, 3, null], [0, 8, 2]] });
    assert.deepEqual(values(sliced.reply.value, sliced.frames), [0, 2, 4, 6].map((i) => truth[2 * width + i]));
    const top = await c.ask({ type: "tensor.reduce", handle: handle.handle, how: "top_k", k: 3 });
    const largest = [...truth].sort((a, b) => Math.abs(b) - Math.abs(a)).slice(0, 3);
    assert.deepEqual(values(top.reply.value, top.frames), largest);
    assert.equal((await c.ask({ type: "tensor.release", handles: [handle.handle] })).reply.type, "done");
    assert.equal((await c.ask({ type: "tensor.release", handles: ["nobody's"] })).reply.changed, false);
    await fails(c.ask({ type: "tensor.fetch", handle: "nobody's" }), "not_found");
  },

  async generated_tokens_are_streamed() {
    const steps = [];
    const request = c.begin({ type: "generate", model, prompts: { texts: [LINE] }, max_new_tokens: 6 });
    const { reply } = await request.final(({ reply: step }) => step.type === "generate.step" && steps.push(step));
    assert.deepEqual(steps.map((s) => s.token), reply.tokens);
    assert.ok(reply.tokens.length <= 6);
    assert.equal(Buffer.concat(steps.map((s) => s.data)).toString("utf8"), reply.text);
  },

  async ablations_come_in_parts() {
    const input = { type: "task", task: "single_double_quote", n: 4 };
    const parts = [];
    const request = c.begin({ type: "ablate", model, input, every: { of: "layer" }, kind: "zero", use_cache: false });
    const { reply, frames } = await request.final((part) => part.reply.type === "ablate.part" && parts.push(part));
    const losses = values(reply.losses, frames);
    assert.equal(reply.things.length, losses.length);
    values(reply.deltas, frames).forEach((delta, i) => close(delta, losses[i] - reply.base_loss, 1e-4));
    for (const { reply: part, frames: own } of parts) {
      values(part.losses, own).forEach((loss, i) => close(loss, losses[part.start + i]));
    }
  },

  async cancel_ends_a_long_request() {
    const request = c.begin({ ...LONG, model });
    await running(request);
    const began = performance.now();
    const cancelled = await request.cancel();
    assert.equal(cancelled.reply.changed ?? true, true);
    const info = await fails(request.final(), "cancelled");
    assert.equal(info.blame, "nobody");
    assert.ok(performance.now() - began < 10_000, "within one step");
    assert.equal((await request.cancel()).reply.changed, false);
  },

  async deadline_ends_a_long_request() {
    await fails(c.ask({ ...LONG, model, deadline_s: 0.3 }), "deadline_exceeded");
  },

  async status_overtakes_long_requests() {
    const request = c.begin({ ...LONG, model, priority: "batch" });
    await running(request);
    const began = performance.now();
    await c.ask({ type: "status" });
    const waited = performance.now() - began;
    const quick = await forward({ logits: "last", use_cache: false });
    assert.equal(quick.reply.type, "forward.result");
    assert.equal(request.ended, false, "an interactive forward goes before a batch sweep");
    await request.cancel();
    await fails(request.final(), "cancelled");
    assert.ok(waited < 5000, `status took ${waited} ms`);
  },

  async duplicate_id_is_a_conflict() {
    const other = await Connection.open(endpoint, keys);
    try {
      const first = other.begin({ ...LONG, model, id: "same" });
      await running(first);
      other.begin({ type: "status", id: "same" });
      await fails(other.ask({ type: "status", id: "same" }), "conflict");
    } finally {
      other.close();
    }
  },

  async client_that_leaves_is_cancelled() {
    const other = await Connection.open(endpoint, keys);
    const request = other.begin({ ...LONG, model, id: "orphan" });
    await running(request);
    other.close();
    const isRunning = async () => {
      const { reply } = await c.ask({ type: "status" });
      return reply.processes.some((p) => (p.running ?? []).some((r) => r.includes("orphan")));
    };
    const until = performance.now() + 20_000;
    while (await isRunning()) {
      assert.ok(performance.now() < until, "its request still runs");
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
  },

  async second_answer_comes_from_the_cache() {
    const fields = { logits: "last", top_k: 3, prompts: { texts: [`# ${Math.random()}\n`] } };
    const first = await forward(fields);
    assert.ok(!first.reply.cached);
    const second = await forward(fields);
    assert.equal(second.reply.cached, true);
    assert.deepEqual(values(second.reply.logits, second.frames), values(first.reply.logits, first.frames));
    assert.ok(!(await forward({ ...fields, use_cache: false })).reply.cached);
    const { reply } = await c.ask({ type: "cache.stats" });
    assert.ok(reply.kinds.find((k) => k.kind === "results").hits >= 1);
  },

  async sessions_are_shared() {
    const session = `conformance-${Math.random()}`;
    const other = await Connection.open(endpoint, keys);
    try {
      const follower = c.begin({ type: "sessions.attach", session });
      const first = (await follower.next()).reply;
      assert.equal(first.final, false);
      const before = first.state.revision ?? 0;
      const update = (patch, revision) => other.ask({ type: "sessions.update", session, patch, ...(revision !== undefined && { revision }) });
      const updated = (await update({ task: "with_open", k: 12, node: { site: "0.attn.v", channel: 1 } })).reply;
      const event = (await follower.next()).reply;
      assert.deepEqual(event.state, updated.state);
      assert.equal(event.state.revision, before + 1);
      await update({ k: null });
      const emptied = (await follower.next()).reply.state;
      assert.equal(emptied.k ?? null, null);
      assert.equal(emptied.task, "with_open");
      await fails(update({ k: 1 }, before), "conflict");
      assert.deepEqual((await c.ask({ type: "sessions.get", session })).reply.state, emptied);
      assert.ok((await c.ask({ type: "sessions.list" })).reply.sessions.some((s) => s.name === session));
      await other.ask({ type: "sessions.close", session });
      const last = await follower.next();
      assert.ok(last.final && last.reply.closed);
      await fails(c.ask({ type: "sessions.get", session }), "not_found");
    } finally {
      other.close();
    }
  },

  async attachment_ends_by_cancel() {
    const session = `conformance-${Math.random()}`;
    const follower = c.begin({ type: "sessions.attach", session });
    await follower.next();
    await follower.cancel();
    await fails(follower.final(), "cancelled");
    await c.ask({ type: "sessions.close", session });
  },

  async job_outlives_its_client() {
    const other = await Connection.open(endpoint, keys);
    const fields = { type: "ablate", model, input: { type: "task", task: "single_double_quote", n: 4 }, every: { of: "layer" }, kind: "zero", detach: true, use_cache: false, idempotency_key: `job-${Math.random()}` };
    const { reply } = await other.ask(fields);
    assert.equal(reply.type, "job.accepted");
    other.close();
    const watch = c.begin({ type: "jobs.watch", job: reply.job });
    const result = await watch.final();
    assert.equal(result.reply.type, "ablate.result");
    assert.ok(values(result.reply.losses, result.frames).length > 0);
    const [info] = (await c.ask({ type: "jobs.get", job: reply.job })).reply.jobs;
    assert.equal(info.state, "done");
    assert.equal((await c.ask(fields)).reply.job, reply.job, "the same key is the same job");
    await fails(c.ask({ ...fields, detach: true, seed: 7 }), "conflict");
  },

  async errors_have_their_codes() {
    await fails(forward({ model: "no-such-model" }), "not_found");
    const task = await fails(c.ask({ type: "tasks.show", task: "single_double_qoute" }), "not_found");
    assert.ok(task.nearest.includes("single_double_quote"));
    const site = await fails(hook({ site: "0.resid_mdi" }), "not_found");
    assert.ok(site.nearest.length > 0);
    await fails(forward({ prompts: { tokens: tokens([[0, 1_000_000]]) } }), "bad_tokens");
    await fails(forward({ prompts: { texts: [] } }), "bad_tokens");
    await fails(forward({ prompts: { tokens: tokens([Array(5000).fill(1)]) } }), "bad_tokens");
    await fails(forward({ interventions: [{ op: "zero", site: "0.attn.q", channels: [10_000_000] }] }), "bad_intervention");
    const flat = { type: "tensor", dtype: "I32", shape: [1], data: new Uint8Array(4) };
    await fails(forward({ prompts: { tokens: flat } }), "bad_shape");
    await fails(forward({ prompts: { tokens: { ...flat, shape: [1, 2] } } }), "malformed_message");
    await fails(forward({ prompts: { tokens: { type: "tensor", dtype: "I32", shape: [1, 2], frame: 1 } } }), "malformed_message");
    await fails(forward({ prompts: { tokens: { ...flat, dtype: "F32", shape: [1, 1] } } }), "bad_shape");
    await fails(c.ask({ type: "jobs.get", job: "nobody's" }), "not_found");
  },

  async message_over_the_limits_is_too_large() {
    const frames = Array(c.welcome.limits.frames + 1).fill(Buffer.alloc(1));
    await fails(c.ask({ type: "status" }, frames), "too_large");
    const n = c.welcome.limits.rows; // pairs: twice as many rows
    if (n <= 16384) await fails(c.ask({ type: "tasks.sample", model, input: { type: "task", task: "with_open", n } }), "too_large");
  },

  async many_requests_are_in_flight_at_once() {
    const answers = await Promise.all(
      Array.from({ length: 32 }, (_, i) => forward({ prompts: { texts: [`x = ${i}\n`] }, logits: "last", use_cache: false })),
    );
    const again = await forward({ prompts: { texts: ["x = 17\n"] }, logits: "last", use_cache: false });
    const expected = values(again.reply.logits, again.frames);
    values(answers[17].reply.logits, answers[17].frames).forEach((x, i) => close(x, expected[i], 1e-4));
  },
};

async function main() {
  c = await within(Connection.open(endpoint, keys), 60, "hello");
  model = c.welcome.default_model;
  const { reply } = await c.ask({ type: "tokenize", model, texts: [LINE] });
  line = reply.rows[0].map((t) => t.id);
  let failed = 0;
  for (const [check, run] of Object.entries(checks)) {
    if (options.only && options.only !== check) continue;
    const began = performance.now();
    const report = { check, ok: true };
    try {
      await within(run(), 180, check);
    } catch (error) {
      failed += 1;
      report.ok = false;
      report.error = error.stack ?? String(error);
    }
    report.ms = Math.round(performance.now() - began);
    console.log(JSON.stringify(report));
  }
  c.close();
  return failed;
}

main().then(
  (failed) => process.exit(failed ? 1 : 0),
  (error) => {
    console.log(JSON.stringify({ check: "connect", ok: false, error: error.stack ?? String(error) }));
    process.exit(2);
  },
);
