// What the server's commands answer, shown: a sentence, nodes to choose from, or lines of text.

import * as vscode from "vscode";
import type { Drawing, Explanation, NodeEffect } from "../protocol.generated";
import { nameOf } from "../shared/nodes";
import { short, signed } from "../shared/scale";
import { readCommandResult } from "./received";

/** Commands that hovers and lenses of the server may link to. */
export const LINKED_COMMANDS = [
  "circuit.explain",
  "circuit.ablate",
  "circuit.select",
  "circuit.heat",
  "circuit.runTask",
  "circuit.showTask",
  "circuit.startDaemon",
];

/** Show the result of `command`: nodes to choose from, lines of text, or a sentence. */
export async function showResult(command: string, result: unknown): Promise<void> {
  switch (command) {
    case "circuit.explain":
      return showNodes(readCommandResult(command, result));
    case "circuit.showCircuit":
    case "circuit.measure":
    case "circuit.showTask":
      return showLines(readCommandResult(command, result));
    case "circuit.ablate":
    case "circuit.runTask":
    case "circuit.runPair":
    case "circuit.takeSide":
      void vscode.window.showInformationMessage(readCommandResult(command, result).sentence);
  }
}

/** The nodes that carry a prediction, strongest first; a chosen one is selected for everybody. */
async function showNodes({ sentence, nodes }: Explanation): Promise<void> {
  const picked = await vscode.window.showQuickPick(
    nodes.map((effect) => ({
      label: nameOf(effect.node),
      description: effectWords(effect),
      node: effect.node,
    })),
    { title: sentence, placeHolder: "Nodes that carry it, strongest first; choose one to look at it" },
  );
  if (picked === undefined) return;
  await vscode.commands.executeCommand("circuits.selectNode", picked.node);
}

function effectWords({ activation, delta, logitChange }: NodeEffect): string {
  const parts = [
    delta === null ? "" : `${signed(delta)} nats without it`,
    activation === null ? "" : `${short(activation)} here`,
    logitChange === null ? "" : `${short(logitChange)} of the logits' difference`,
  ];
  return parts.filter(Boolean).join(" · ");
}

async function showLines({ title, lines }: Drawing): Promise<void> {
  const document = await vscode.workspace.openTextDocument({ content: [title, "", ...lines, ""].join("\n") });
  await vscode.window.showTextDocument(document, {
    preview: true,
    viewColumn: vscode.ViewColumn.Beside,
    preserveFocus: true,
  });
}
