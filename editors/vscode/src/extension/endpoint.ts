// Choosing which daemon to talk to: the local one, a forwarded socket, or tcp with keys.

import * as os from "node:os";
import * as path from "node:path";
import * as vscode from "vscode";
import type { ConnectParams } from "../protocol.generated";
import { refusedEndpoint, sshForward } from "./endpointText";
import type { Server } from "./server";

type Way = "local" | "socket" | "ssh" | "tcp";

const WAYS: (vscode.QuickPickItem & { way: Way })[] = [
  {
    way: "local",
    label: "$(home) The daemon of this machine",
    detail: "Its private socket, found by itself.",
  },
  {
    way: "ssh",
    label: "$(remote) A daemon on another machine, over SSH",
    detail: "Forwards its socket with ssh -L in a terminal.",
  },
  {
    way: "socket",
    label: "$(plug) A socket",
    detail: "ipc:///path, for example one that is forwarded already.",
  },
  {
    way: "tcp",
    label: "$(key) tcp with keys",
    detail: "tcp://host:port; the daemon wants CURVE keys and an allow-list.",
  },
];

/** Ask, connect, and offer to keep the choice. */
export async function chooseEndpoint(server: Server): Promise<void> {
  const options = {
    title: "Choose an endpoint",
    placeHolder: server.daemon?.endpoint ?? "",
    matchOnDetail: true,
  };
  const chosen = await vscode.window.showQuickPick(WAYS, options);
  const params = chosen === undefined ? null : await ASKED[chosen.way]();
  if (params === null) return;
  const daemon = await server.ask("circuit/daemon/connect", params);
  if (daemon.state !== "connected") {
    void vscode.window.showWarningMessage([daemon.sentence, daemon.hint].filter(Boolean).join(" "));
    return;
  }
  const keep = "Keep in settings";
  if ((await vscode.window.showInformationMessage(daemon.sentence, keep)) === keep)
    await keepInSettings(params);
}

const ASKED: { readonly [way in Way]: () => Promise<ConnectParams | null> } = {
  local: async () => ({ here: true }),
  socket: async () => {
    const endpoint = await askEndpoint("Path of the socket", "ipc:///tmp/circuitd.sock", "ipc://");
    return endpoint === null ? null : { endpoint };
  },
  ssh: async () => {
    const host = await vscode.window.showInputBox({
      title: "Which machine?",
      prompt: "As ssh knows it: host, or user@host",
      ignoreFocusOut: true,
    });
    if (!host) return null;
    const remote = await vscode.window.showInputBox({
      title: "Its socket",
      prompt: "`circuitd status` there prints the path",
      value: "/run/user/1000/circuitd/circuitd.sock",
      ignoreFocusOut: true,
    });
    if (!remote) return null;
    const local = path.join(os.tmpdir(), `circuitd-${host.replace(/[^\w.-]/g, "_")}.sock`);
    const terminal = vscode.window.createTerminal({
      name: `ssh ${host}`,
      iconPath: new vscode.ThemeIcon("remote"),
    });
    terminal.show(true);
    terminal.sendText(sshForward(host, remote, local));
    const go = await vscode.window.showInformationMessage(
      "Log in there if ssh asks; then connect.",
      { modal: false },
      "Connect",
    );
    return go === undefined ? null : { endpoint: `ipc://${local}` };
  },
  tcp: async () => {
    const endpoint = await askEndpoint("Address of the daemon", "tcp://gpu-box:7557", "tcp://");
    if (endpoint === null) return null;
    const key = await askFile("This client's secret key", "circuitd keys make NAME writes it");
    const serverKey =
      key === null ? null : await askFile("The server's public key", "server.public, from that machine");
    return serverKey === null ? null : { endpoint, key, serverKey };
  },
};

async function askEndpoint(title: string, placeHolder: string, scheme: string): Promise<string | null> {
  const found = await vscode.window.showInputBox({
    title,
    placeHolder,
    ignoreFocusOut: true,
    validateInput: (text) => refusedEndpoint(text, scheme),
  });
  return found?.trim() || null;
}

async function askFile(title: string, openLabel: string): Promise<string | null> {
  const chosen = await vscode.window.showOpenDialog({
    title: `${title} (${openLabel})`,
    canSelectMany: false,
  });
  return chosen?.[0]?.fsPath ?? null;
}

async function keepInSettings({ endpoint, key, serverKey }: ConnectParams): Promise<void> {
  const settings = vscode.workspace.getConfiguration("circuit");
  const values = { endpoint, keyFile: key, serverKeyFile: serverKey };
  for (const [name, value] of Object.entries(values)) {
    await settings.update(name, value ?? undefined, vscode.ConfigurationTarget.Global);
  }
}
