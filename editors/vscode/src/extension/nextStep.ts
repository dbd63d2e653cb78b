// What the status item says, and what it offers next: pure, so that every state can be tested.

import { bytes, count } from "../shared/scale";
import type { Link } from "./server";

export interface Step {
  readonly label: string;
  readonly detail: string;
  readonly command: string;
}

export interface StatusShown {
  readonly text: string;
  readonly tooltip: string;
  readonly severity: "normal" | "warning" | "error";
  /** Best first. There is always one. */
  readonly steps: readonly Step[];
}

const step = (label: string, detail: string, command: string): Step => ({ label, detail, command });
const START = step(
  "$(play) Start a daemon",
  "Runs `circuitd start` on this machine.",
  "circuits.startDaemon",
);
const CHOOSE = step(
  "$(plug) Choose endpoint …",
  "The local daemon, a socket forwarded by ssh, or tcp with keys.",
  "circuits.chooseEndpoint",
);
const RETRY = step("$(refresh) Try again", "Connect to the endpoint as it is set.", "circuits.reconnect");
const STOP = step("$(debug-stop) Stop the daemon", "Jobs go on at its next start.", "circuits.stopDaemon");
const HANG_UP = step("$(debug-disconnect) Disconnect", "The daemon runs on.", "circuits.disconnect");
const RESTART = step(
  "$(debug-restart) Restart the language server",
  "Ends `circuit lsp` and starts it again.",
  "circuits.restartServer",
);
const SETTINGS = step(
  "$(settings-gear) Open settings",
  "Command, endpoint, keys, session, model.",
  "circuits.openSettings",
);
const LOG = step("$(output) Show the log", "What the extension and the server did.", "circuits.showLog");
const DOCS = step("$(book) Read the guide", "What is here, and how it is used.", "circuits.openDocs");
const PANEL = step(
  "$(type-hierarchy) Open the circuit panel",
  "The circuit of the session, as a graph.",
  "circuits.openPanel",
);
const HEAT = step("$(paintcan) Choose heat …", "Colour the tokens of this document.", "circuits.chooseHeat");
const TRUST = step(
  "$(workspace-trusted) Trust this workspace …",
  "Until then nothing is started.",
  "workbench.trust.manage",
);
const ALWAYS = [SETTINGS, LOG, DOCS];

/** The status item of `link`. */
export function statusOf(link: Link): StatusShown {
  switch (link.state) {
    case "untrusted":
      return shown(
        "$(workspace-untrusted) Circuits",
        "Restricted: no program is started and no daemon contacted.",
        "normal",
        [TRUST, DOCS],
      );
    case "missing":
      return shown("$(warning) Circuits", `${link.sentence} ${link.hint}`, "warning", [
        SETTINGS,
        RESTART,
        LOG,
        DOCS,
      ]);
    case "starting":
      return shown("$(loading~spin) Circuits", "The language server is starting.", "normal", ALWAYS);
    case "ended":
      return shown(
        "$(error) Circuits",
        `${link.sentence} Next try in ${Math.round(link.retryInMs / 1000)} s.`,
        "error",
        [RESTART, LOG, SETTINGS, DOCS],
      );
    case "running":
      return ofDaemon(link);
  }
}

function ofDaemon({ daemon }: Extract<Link, { state: "running" }>): StatusShown {
  if (daemon === null) return shown("$(loading~spin) Circuits", "Asking for the daemon.", "normal", ALWAYS);
  const words = daemon.hint === null ? daemon.sentence : `${daemon.sentence}\n\n${daemon.hint}`;
  const start = daemon.canStart ? [START] : [];
  switch (daemon.state) {
    case "connected": {
      const load = daemon.running + daemon.queued;
      const icon = load > 0 ? "$(sync~spin)" : "$(circuit-board)";
      const facts = [
        daemon.sentence,
        `${count(daemon.resident.length, "model")} in memory, ${bytes(daemon.usedNbytes)} of ${bytes(daemon.budgetNbytes)}`,
        `${daemon.running} running, ${daemon.queued} waiting, ${count(daemon.jobsUnfinished, "unfinished job")}`,
        ...(daemon.session === null ? [] : [`session ${daemon.session}`]),
      ];
      const text = `${icon} ${daemon.model ?? "Circuits"}${load > 1 ? ` ${load}` : ""}`;
      return shown(text, facts.join("\n\n"), "normal", [
        PANEL,
        HEAT,
        CHOOSE,
        HANG_UP,
        STOP,
        RESTART,
        ...ALWAYS,
      ]);
    }
    case "connecting":
      return shown("$(loading~spin) Circuits", words, "normal", [CHOOSE, ...ALWAYS]);
    case "absent":
      return shown("$(circle-slash) Circuits: no daemon", words, "normal", [
        ...start,
        CHOOSE,
        RETRY,
        ...ALWAYS,
      ]);
    case "off":
      return shown("$(debug-disconnect) Circuits: off", words, "normal", [
        RETRY,
        ...start,
        CHOOSE,
        ...ALWAYS,
      ]);
    case "refused":
    case "incompatible":
      return shown(`$(error) Circuits: ${daemon.state}`, words, "error", [CHOOSE, RETRY, ...ALWAYS]);
  }
}

function shown(
  text: string,
  tooltip: string,
  severity: StatusShown["severity"],
  steps: readonly Step[],
): StatusShown {
  return { text, tooltip, severity, steps };
}
