// The status item: how it stands with the daemon, and the next step at a click.

import * as vscode from "vscode";
import { statusOf } from "./nextStep";
import type { Server } from "./server";

/** Show it, and keep the context keys that commands and views depend on. */
export function showStatus(server: Server): vscode.Disposable {
  const item = vscode.window.createStatusBarItem("circuits.status", vscode.StatusBarAlignment.Right, 90);
  item.name = "Circuits";
  item.command = "circuits.nextStep";
  const update = () => {
    const { text, tooltip, severity } = statusOf(server.link);
    item.text = text;
    item.tooltip = new vscode.MarkdownString(tooltip);
    item.accessibilityInformation = {
      label: `Circuits: ${tooltip.replaceAll("\n\n", ", ")}`,
      role: "button",
    };
    item.backgroundColor =
      severity === "normal" ? undefined : new vscode.ThemeColor(`statusBarItem.${severity}Background`);
    const { link } = server;
    const daemon = server.daemon;
    const keys = {
      "circuits.server": link.state,
      "circuits.daemon": daemon?.state ?? "unknown",
      "circuits.connected": server.isConnected,
      "circuits.canStart": daemon?.canStart === true && !server.isConnected,
    };
    for (const [key, value] of Object.entries(keys))
      void vscode.commands.executeCommand("setContext", key, value);
  };
  update();
  item.show();
  return vscode.Disposable.from(item, server.onChanged(update));
}

/** Ask which of the possible next steps to take. */
export async function chooseNextStep(server: Server): Promise<void> {
  const { steps, tooltip } = statusOf(server.link);
  const title = tooltip.split("\n\n")[0] ?? "";
  const chosen = await vscode.window.showQuickPick(
    steps.map((step) => ({
      label: step.label,
      detail: step.detail.replaceAll("`", ""),
      command: step.command,
    })),
    { title: "Circuits", placeHolder: title, matchOnDetail: true },
  );
  if (chosen !== undefined) await vscode.commands.executeCommand(chosen.command);
}
