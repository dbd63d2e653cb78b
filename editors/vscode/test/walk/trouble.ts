// Endpoints that are none, keys that do not fit, and a daemon that is killed.

import * as path from "node:path";
import { type Steps, until } from "./workbench";

export const TROUBLE: Steps = {
  async "an endpoint is chosen in dialogs: what cannot be one is said at once, what is not there after"(
    bench,
  ) {
    await bench.run("Circuits: Choose Endpoint");
    await bench.entry("A socket").click();
    await bench.asked("Path of the socket");
    await bench.input.fill("ipc://relative");
    await bench.page.locator(".quick-input-message", { hasText: "absolute" }).waitFor();
    await bench.enter("ipc:///no/such.sock");
    await bench.toast(/nobody listens there/).waitFor();
    await bench.status.filter({ hasText: "no daemon" }).waitFor();
  },

  async "with keys that the daemon does not know it is refused, and says what to do"(bench, { tcp }) {
    await bench.run("Circuits: Choose Endpoint");
    await bench.entry("tcp with keys").click();
    await bench.asked("Address of the daemon");
    await bench.enter(tcp.endpoint);
    for (const [title, file] of [
      ["This client's secret key", tcp.strangerKey],
      ["The server's public key", tcp.serverKey],
    ] as const) {
      await bench.asked(title);
      // It writes the folder it begins in when it has read it, over what was typed before.
      await until(
        "the dialog's folder",
        () => bench.input.inputValue(),
        (value) => value.endsWith("/"),
      );
      await bench.entry("..").waitFor();
      await bench.input.fill(file);
      await bench.entry(path.basename(file)).waitFor();
      await bench.page.keyboard.press("Enter");
    }
    await bench.toast(/refused this client's key.*circuitd keys allow/).waitFor();
    await bench.status.filter({ hasText: "refused" }).waitFor();
    await bench.shot("refused");
    await bench.run("Circuits: Choose Endpoint");
    await bench.entry("The daemon of this machine").click();
    await bench.status.filter({ hasText: "csd-py-sparse" }).waitFor();
    await bench.run("Notifications: Clear All Notifications");
  },

  async "the daemon is killed: it is said, and the next step brings it back"(bench, around) {
    process.kill(around.daemonPid, "SIGKILL");
    await bench.status.filter({ hasText: "no daemon" }).waitFor();
    await bench.panel.locator('[data-name="start"]').click();
    await bench.status.filter({ hasText: "csd-py-sparse" }).waitFor();
    await bench.panel.locator('[data-name="start"]').waitFor({ state: "detached" });
    await bench.decorated.first().waitFor();
    await bench.shot("recovered");
  },
};
