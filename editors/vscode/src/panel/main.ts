// Where the panel's script begins, in VS Code and in a saved page alike.

import { h } from "./dom";
import { ExtensionHost } from "./host";
import { PageHost } from "./pageHost";
import { Panel } from "./panel";

const root = document.getElementById("panel")!;
const data = document.getElementById("snapshot");
try {
  new Panel(data === null ? new ExtensionHost() : new PageHost(data.textContent ?? ""), root);
} catch (error) {
  root.replaceChildren(
    h("p", { class: "complaint", role: "alert" }, error instanceof Error ? error.message : String(error)),
  );
  throw error;
}
