// Where the extension begins: makes its parts, and starts the language server without waiting.

import * as vscode from "vscode";
import { registerCommands } from "./commands";
import { HeatLayer } from "./heat";
import { Panels } from "./panels";
import { Server } from "./server";
import { showStatus } from "./status";
import { Views } from "./views";

/** What tests may look at. */
export interface Api {
  readonly server: Server;
  readonly heat: HeatLayer;
}

export function activate(context: vscode.ExtensionContext): Api {
  const log = vscode.window.createOutputChannel("Circuits", { log: true });
  const server = new Server(log);
  const heat = new HeatLayer(server, log);
  const panels = new Panels(server, log, context.extensionUri);
  const views = new Views(server);
  const tools = { server, heat, panels, views, log, extension: context.extensionUri };
  context.subscriptions.push(log, server, heat, panels, views, showStatus(server), registerCommands(tools));
  void server.start();
  return { server, heat };
}
