// What the menus of the views do, asked for as a menu does: with the row that was clicked.

import assert from "node:assert/strict";
import * as vscode from "vscode";
import type { Api } from "../../src/extension/extension";
import type { JobInfo, ModelInfo } from "../../src/protocol.generated";
import { connected, heard, type Tests } from "./bench";

const TASK = "single_double_quote";

function chosen(command: string, subject: string): Thenable<unknown> {
  return vscode.commands.executeCommand(`circuits.${command}`, { subject });
}

async function model({ server }: Api, name: string): Promise<ModelInfo> {
  const { models } = await server.ask("circuit/models/list", {});
  const found = models.find((x) => x.name === name);
  assert.ok(found, `no model ${name}`);
  return found;
}

export const MENUS: Tests = {
  async "a model is unloaded, loaded and pinned"() {
    const api = await connected();
    const name = api.server.daemon?.model ?? "";
    await chosen("loadModel", name);
    assert.notEqual((await model(api, name)).resident, null);
    await chosen("unloadModel", name);
    assert.equal((await model(api, name)).resident, null);
    await chosen("loadModel", name);
    await chosen("pinModel", name);
    assert.equal((await model(api, name)).resident?.pinned, true);
    await chosen("unpinModel", name);
    assert.equal((await model(api, name)).resident?.pinned, false);
  },

  async "a job is cancelled"() {
    const { server } = await connected();
    const { job } = await server.ask("circuit/jobs/prune", { task: TASK, targetLoss: 0.15 });
    const event: vscode.Event<JobInfo> = (listener) => server.on("circuit/jobChanged", listener);
    const ended = heard(event, "the job's end", (x) => x.job === job && x.finishedAtS !== null);
    await chosen("cancelJob", job);
    assert.equal((await ended).state, "cancelled");
    const { jobs } = await server.ask("circuit/jobs/list", {});
    assert.equal(jobs.find((x) => x.job === job)?.state, "cancelled");
  },

  async "a task shows its examples, and what was computed is forgotten"() {
    const { server } = await connected();
    const opened = heard(vscode.window.tabGroups.onDidChangeTabs, "a preview", (event) =>
      event.opened.some(({ input }) => input instanceof vscode.TabInputWebview),
    );
    await chosen("showTask", TASK);
    await opened;
    await vscode.commands.executeCommand("workbench.action.closeActiveEditor");
    await chosen("clearCache", "results");
    const { caches } = await server.ask("circuit/cache/list", {});
    assert.equal(caches.find((x) => x.kind === "results")?.entries, 0);
  },

  async "a circuit is put to its controls from its row, and the job can be followed"() {
    const { server } = await connected();
    const { circuits } = await server.ask("circuit/circuits/list", {});
    const [circuit] = circuits;
    assert.ok(circuit);
    const event: vscode.Event<JobInfo> = (listener) => server.on("circuit/jobChanged", listener);
    const begun = heard(event, "a job", (x) => x.finishedAtS === null);
    await chosen("verify", circuit.id);
    const { job } = await begun;
    const ended = heard(event, "the job's end", (x) => x.job === job && x.finishedAtS !== null);
    await chosen("cancelJob", job);
    await ended;
  },
};
