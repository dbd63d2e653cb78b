// Choosing what heat shows, and carrying it out on the document that is looked at.

import * as vscode from "vscode";
import type { HeatChoice, SessionState } from "../protocol.generated";
import { nameOf } from "../shared/nodes";
import type { HeatLayer } from "./heat";
import { sentenceOf } from "./refusal";
import type { Server } from "./server";
import { isRead } from "./settings";

type Item = vscode.QuickPickItem & { choice: HeatChoice | "off" | "models" };

/** A quick pick of what heat can show; null: nothing was chosen. */
export async function chooseHeat(server: Server): Promise<HeatChoice | "off" | null> {
  const session = server.isConnected ? await server.ask("circuit/session/get", {}).catch(() => null) : null;
  const chosen = await vscode.window.showQuickPick(choices(session), {
    title: "Heat of this document",
    matchOnDetail: true,
  });
  if (chosen === undefined) return null;
  return chosen.choice === "models" ? chooseModel(server) : chosen.choice;
}

/** What there is to choose in this session. */
function choices(session: SessionState | null): Item[] {
  const items: Item[] = [
    {
      label: "$(flame) Loss",
      detail: "How surprised the model was by each token, in nats.",
      choice: { of: "loss" },
    },
    {
      label: "$(percentage) Probability",
      detail: "How likely each token was.",
      choice: { of: "probability" },
    },
  ];
  if (session?.node) {
    const { node, circuit } = session;
    items.push({
      label: `$(circle-filled) ${nameOf(node)}`,
      detail: "Activation of the selected node.",
      choice: { of: "node", node, circuit: null },
    });
    if (circuit !== null) {
      items.push({
        label: `$(circle-outline) ${nameOf(node)} in the circuit`,
        detail: "Its activation where only the circuit's nodes are left.",
        choice: { of: "node", node, circuit },
      });
    }
  }
  if (session?.circuit) {
    items.push({
      label: "$(type-hierarchy) Circuit against model",
      detail: "What it costs, token by token, to have only the circuit.",
      choice: { of: "difference", circuit: session.circuit },
    });
  }
  items.push(
    {
      label: "$(diff) Another model …",
      detail: "The loss of another model minus this one's.",
      choice: "models",
    },
    { label: "$(close) Off", detail: "Read this document no more.", choice: "off" },
  );
  return items;
}

async function chooseModel(server: Server): Promise<HeatChoice | null> {
  const { models } = await server.ask("circuit/models/list", {});
  const others = models.filter((model) => model.broken === null && model.name !== server.daemon?.model);
  const chosen = await vscode.window.showQuickPick(
    others.map((model) => ({
      label: model.name,
      description: model.resident === null ? "is loaded first" : "in memory",
    })),
    { title: "Compare with the loss of" },
  );
  return chosen === undefined ? null : { of: "difference", otherModel: chosen.label };
}

/** Carry out a change of heat for the active editor; what goes wrong is said. */
export async function changeHeat(layer: HeatLayer, choice: HeatChoice | "off" | "on"): Promise<void> {
  const document =
    vscode.window.activeTextEditor?.document ??
    vscode.window.visibleTextEditors.find((editor) => isRead(editor.document))?.document;
  if (document === undefined) {
    void vscode.window.showInformationMessage("Open a document first.");
    return;
  }
  try {
    await layer.watch(document, choice !== "off", typeof choice === "string" ? null : choice);
  } catch (error) {
    void vscode.window.showErrorMessage(sentenceOf(error));
  }
}
