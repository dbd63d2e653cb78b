// Taking a circuit away: as a picture, as data, as a page, as Python.

import type { CircuitGraph, Node, NodeSamples } from "../protocol.generated";
import { asPython } from "../shared/python";
import { toPng, toSvg } from "./exports";
import type { Host } from "./host";
import type { Look } from "./paint";
import type { Palette } from "./palette";
import type { Scene } from "./scene";
import type { ExportKind } from "./toolbar";

/** What is shown now. */
export interface Shown {
  readonly graph: CircuitGraph;
  readonly scene: Scene;
  readonly look: Look;
  readonly palette: Palette;
  readonly dropped: readonly Node[];
  readonly selected: Node | null;
  readonly samples: readonly NodeSamples[];
}

export async function exportAs(kind: ExportKind, host: Host, shown: Shown): Promise<void> {
  const { graph, scene, look, palette } = shown;
  const { info } = graph;
  const name = `${info.task}-${info.k}-${info.id.slice(0, 8)}`;
  const save = (fileName: string, text: string | null, base64: string | null) =>
    host.ask("panel/save", { fileName, text, base64 });
  switch (kind) {
    case "svg":
      await save(`${name}.svg`, toSvg(scene, look, palette), null);
      break;
    case "png":
      await save(`${name}.png`, null, toPng(scene, look, palette));
      break;
    case "json": {
      const file = await host.ask("circuit/circuits/export", { circuit: info.id, format: "json" });
      await save(file.fileName, file.text, null);
      break;
    }
    case "page":
      await savePage(host, shown);
      break;
    case "python": {
      const text = asPython(info.id, shown.dropped, shown.selected);
      await host.ask("panel/copy", { text, what: "Python" });
    }
  }
}

/** This circuit and its siblings, with whatever was looked at so far. */
async function savePage(host: Host, { graph, samples }: Shown): Promise<void> {
  const { info } = graph;
  const others = graph.siblings.filter((x) => x.id !== info.id && x.broken === null);
  const [masks, ...graphs] = await Promise.all([
    host.ask("circuit/circuits/masks", { task: info.task, model: info.model }),
    ...others.map((x) => host.ask("circuit/circuits/show", { circuit: x.id })),
  ]);
  await host.ask("panel/savePage", {
    circuit: info.id,
    asOf: new Date().toISOString(),
    graphs: [graph, ...graphs],
    masks: [masks],
    samples,
  });
}
