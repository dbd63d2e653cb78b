// Every command of the palette and the menus, in one table.

import * as vscode from "vscode";
import type { HeatChoice, Node } from "../protocol.generated";
import { changeHeat, chooseHeat } from "./chooseHeat";
import { chooseEndpoint } from "./endpoint";
import type { HeatLayer } from "./heat";
import type { Panels } from "./panels";
import { attended } from "./progress";
import { sentenceOf } from "./refusal";
import type { Server } from "./server";
import { chooseNextStep } from "./status";
import { showTask } from "./taskExamples";
import type { Views } from "./views";

/** What commands work with. */
export interface Tools {
  readonly server: Server;
  readonly heat: HeatLayer;
  readonly panels: Panels;
  readonly views: Views;
  readonly log: vscode.LogOutputChannel;
  readonly extension: vscode.Uri;
}

/** Menus of the views pass their row. */
interface Subject {
  readonly subject: string;
}
type Handler = (...args: readonly never[]) => Promise<unknown> | unknown;

/** Register them all; what a command throws is said, with a way to the log. */
export function registerCommands(tools: Tools): vscode.Disposable {
  const registered = Object.entries({
    ...daemonCommands(tools),
    ...textCommands(tools),
    ...circuitCommands(tools),
    ...viewCommands(tools),
  });
  return vscode.Disposable.from(
    ...registered.map(([name, handler]) =>
      vscode.commands.registerCommand(name, async (...args: readonly never[]) => {
        try {
          return await handler(...args);
        } catch (error) {
          tools.log.error(`${name}: ${sentenceOf(error)}`);
          const log = "Show log";
          void vscode.window.showErrorMessage(sentenceOf(error), log).then((chosen) => {
            if (chosen === log) tools.log.show();
          });
          return undefined;
        }
      }),
    ),
  );
}

function daemonCommands({ server, log, extension }: Tools): { readonly [name: string]: Handler } {
  return {
    "circuits.nextStep": () => chooseNextStep(server),
    "circuits.startDaemon": () =>
      attended("Starting a daemon …", (token) => server.ask("circuit/daemon/start", {}, token)),
    "circuits.stopDaemon": () => stopDaemon(server),
    "circuits.chooseEndpoint": () => chooseEndpoint(server),
    "circuits.reconnect": () => server.ask("circuit/daemon/connect", {}),
    "circuits.disconnect": () => server.ask("circuit/daemon/connect", { off: true }),
    "circuits.restartServer": () => server.restart(),
    "circuits.joinSession": () => joinSession(server),
    "circuits.showLog": () => log.show(),
    "circuits.openSettings": () =>
      vscode.commands.executeCommand("workbench.action.openSettings", "@ext:circuitd.circuit"),
    "circuits.openDocs": () =>
      vscode.commands.executeCommand("markdown.showPreview", vscode.Uri.joinPath(extension, "README.md")),
    "circuits.openWalkthrough": () =>
      vscode.commands.executeCommand(
        "workbench.action.openWalkthrough",
        "circuitd.circuit#circuits.start",
        false,
      ),
  };
}

function textCommands({ server, heat, panels }: Tools): { readonly [name: string]: Handler } {
  const choose = async () => {
    const choice = await chooseHeat(server);
    if (choice !== null) await changeHeat(heat, choice);
  };
  return {
    "circuits.chooseHeat": choose,
    "circuits.heatOn": () => changeHeat(heat, "on"),
    "circuits.heatOff": () => changeHeat(heat, "off"),
    "circuits.heatLoss": () => changeHeat(heat, { of: "loss" }),
    "circuits.heatProbability": () => changeHeat(heat, { of: "probability" }),
    "circuits.nodeHeat": (node: Node, circuit: string | null) => {
      const choice: HeatChoice = { of: "node", node, circuit };
      return changeHeat(heat, choice);
    },
    "circuits.selectNode": async (node: Node) => {
      await server.ask("circuit/session/update", { node });
      panels.open(null);
    },
    "circuits.clearAblations": () => server.ask("circuit/session/update", { interventions: [] }),
  };
}

function circuitCommands({ server, panels, views }: Tools): { readonly [name: string]: Handler } {
  return {
    "circuits.openPanel": () => panels.open(null),
    "circuits.openNewPanel": (row?: Subject) => panels.open(row?.subject ?? null, true),
    "circuits.openCircuit": (row: Subject) => panels.open(row.subject),
    "circuits.copyReference": async (row: Subject) => {
      await vscode.env.clipboard.writeText(row.subject);
      vscode.window.setStatusBarMessage(`Copied ${row.subject}`, 3000);
    },
    "circuits.verify": async (row: Subject) => {
      await server.ask("circuit/jobs/verify", { circuit: row.subject });
      views.refresh(["jobs"]);
    },
    "circuits.deleteCircuit": async (row: Subject) => {
      const really = "Delete";
      const words = `Delete the files of circuit ${row.subject}?`;
      if ((await vscode.window.showWarningMessage(words, { modal: true }, really)) !== really) return;
      await server.ask("circuit/circuits/delete", { circuit: row.subject });
    },
    "circuits.prune": async (row?: Subject) => {
      const task = row?.subject ?? (await chooseTask(server));
      const target = task === undefined ? undefined : await askTarget(task);
      if (task === undefined || target === undefined) return;
      await server.ask("circuit/jobs/prune", { task, targetLoss: target });
      views.refresh(["jobs"]);
      await vscode.commands.executeCommand("circuits.jobs.focus");
    },
    "circuits.showTask": (row: Subject) => showTask(server, row.subject),
  };
}

function viewCommands({ server, views }: Tools): { readonly [name: string]: Handler } {
  const pin = async (model: string, pinned: boolean) => {
    await server.ask("circuit/models/pin", { model, pinned });
    views.refresh(["models"]);
  };
  return {
    "circuits.refresh": () => views.refresh(),
    "circuits.loadModel": async (row: Subject) => {
      const load = (token: vscode.CancellationToken) =>
        server.ask("circuit/models/load", { model: row.subject }, token);
      await attended(`Loading ${row.subject} …`, load);
      views.refresh(["models"]);
    },
    "circuits.unloadModel": async (row: Subject) => {
      await server.ask("circuit/models/unload", { model: row.subject });
      views.refresh(["models"]);
    },
    "circuits.pinModel": (row: Subject) => pin(row.subject, true),
    "circuits.unpinModel": (row: Subject) => pin(row.subject, false),
    "circuits.useModel": (row: Subject) => server.ask("circuit/session/update", { model: row.subject }),
    "circuits.cancelJob": async (row: Subject) => {
      await server.ask("circuit/jobs/cancel", { job: row.subject });
      views.refresh(["jobs"]);
    },
    "circuits.clearCache": async (row?: Subject) => {
      const kind = (row?.subject ?? null) as "results" | null;
      await server.ask("circuit/cache/clear", { kind });
      views.refresh(["cache"]);
    },
  };
}

async function stopDaemon(server: Server): Promise<void> {
  const others = (server.daemon?.clients ?? 1) - 1;
  const really = "Stop it";
  const who = others > 0 ? ` ${others} other client${others === 1 ? " is" : "s are"} connected to it.` : "";
  const words = `Stop the daemon?${who} Jobs go on at its next start.`;
  if ((await vscode.window.showWarningMessage(words, { modal: true }, really)) !== really) return;
  await attended("Stopping the daemon …", (token) => server.ask("circuit/daemon/stop", {}, token));
}

async function joinSession(server: Server): Promise<void> {
  const { sessions } = await server.ask("circuit/session/list", {});
  const picked = await vscode.window.showQuickPick(
    [
      ...sessions.map((session) => ({
        label: session.name,
        description: [session.model, session.task].filter(Boolean).join(" · "),
        detail: session.attached === 1 ? "1 client" : `${session.attached} clients`,
      })),
      { label: "$(add) Another name …", description: "", detail: "" },
    ],
    { title: "Join a session", placeHolder: server.daemon?.session ?? "" },
  );
  const name = picked?.label.startsWith("$(add)")
    ? await vscode.window.showInputBox({ title: "Name of the session" })
    : picked?.label;
  if (name) await server.ask("circuit/session/join", { name });
}

async function chooseTask(server: Server): Promise<string | undefined> {
  const { tasks } = await server.ask("circuit/tasks/list", {});
  const picked = await vscode.window.showQuickPick(
    tasks.map((task) => ({ label: task.name, detail: task.description })),
    { title: "Prune on which task?", matchOnDetail: true },
  );
  return picked?.label;
}

async function askTarget(task: string): Promise<number | undefined> {
  const text = await vscode.window.showInputBox({
    title: `Prune ${task}`,
    prompt: "Target loss, nats per side (chance is 0.693)",
    value: "0.15",
    validateInput: (value) => (Number(value) > 0 && Number(value) <= 100 ? null : "A number above 0"),
  });
  return text === undefined ? undefined : Number(text);
}
