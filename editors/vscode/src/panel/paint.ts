// The picture of a scene, drawn with any pen. Detail follows the zoom: boxes before words.

import { BOX_HEIGHT, deltaText } from "./layout";
import type { Palette } from "./palette";
import type { Curves, Line, Pen } from "./pen";
import { nodeWords, type Scene } from "./scene";

/** How much is drawn. */
export interface Detail {
  /** Words need a zoom at which they can be read. */
  readonly names: boolean;
  readonly deltas: boolean;
  /** From far away curves are straight, and corners are not round. */
  readonly isPlain: boolean;
}

export const FULL: Detail = { names: true, deltas: true, isPlain: false };

export function detailAt(zoom: number): Detail {
  return { names: zoom >= 0.4, deltas: zoom >= 0.6, isPlain: zoom < 0.3 };
}

/** What of the scene is drawn, and how. Sets of node and edge numbers. */
export interface Look {
  readonly edges: ReadonlySet<number>;
  readonly showsCarried: boolean;
  readonly dropped: ReadonlySet<number>;
}

const WIDTH_CLASSES = 4;
/** Edge widths in pixels of the picture, by class. */
const WIDTHS = [1, 1.8, 3, 5];

/** Everything: carried channels, edges (weak ones first), heads, nodes. */
export function paintScene(pen: Pen, scene: Scene, look: Look, palette: Palette, detail: Detail): void {
  if (look.showsCarried) paintCarried(pen, scene, palette, detail);
  paintEdges(pen, scene, look.edges, palette, detail);
  if (!detail.isPlain) paintHeads(pen, scene, palette);
  scene.graph.nodes.forEach((_, i) => {
    paintNode(pen, scene, i, palette, detail, look.dropped.has(i));
  });
}

/** The edges of `edges`, as few strokes as there are styles. */
export function paintEdges(
  pen: Pen,
  scene: Scene,
  edges: Iterable<number>,
  palette: Palette,
  detail: Detail,
): void {
  const styles = new Map<
    string,
    { curves: Curves; rank: number; color: string; width: number; line: Line }
  >();
  for (const e of edges) {
    const share = scene.edgeShares[e]!;
    const shade = scene.edgeShades[e]!;
    const line = scene.graph.edges.weight[e]! < 0 ? "dashed" : "solid";
    const size = Math.min(WIDTH_CLASSES - 1, Math.floor(share * WIDTH_CLASSES));
    const owner = scene.owners?.edges[e] ?? "both";
    const key = `${owner} ${shade} ${size} ${line}`;
    let style = styles.get(key);
    if (style === undefined) {
      const color = owner === "both" ? palette.stroke(shade) : palette[owner];
      style = { curves: [], rank: size * 10 + Math.abs(shade), color, width: WIDTHS[size]!, line };
      styles.set(key, style);
    }
    pushCurve(style.curves, scene, scene.graph.edges.source[e]!, scene.graph.edges.target[e]!);
  }
  for (const style of [...styles.values()].sort((a, b) => a.rank - b.rank)) {
    pen.curves(style.curves, style, detail.isPlain);
  }
}

function paintCarried(pen: Pen, scene: Scene, palette: Palette, detail: Detail): void {
  const curves: Curves = [];
  const { source, target } = scene.graph.carried;
  source.forEach((a, i) => {
    pushCurve(curves, scene, a, target[i]!);
  });
  pen.curves(curves, { color: palette.faint, width: 1, line: "dotted" }, detail.isPlain);
}

function pushCurve(curves: Curves, scene: Scene, source: number, target: number): void {
  const a = scene.layout.boxes[source]!;
  const b = scene.layout.boxes[target]!;
  curves.push(a.x, a.y + BOX_HEIGHT, b.x, b.y);
}

function paintHeads(pen: Pen, scene: Scene, palette: Palette): void {
  for (const rank of scene.layout.ranks) {
    for (const group of rank.rows.flat()) {
      if (group.head === null) continue;
      const [first, last] = [scene.layout.boxes[group.nodes[0]!]!, scene.layout.boxes[group.nodes.at(-1)!]!];
      const left = first.x - first.width / 2 - 4;
      const width = last.x + last.width / 2 + 4 - left;
      const style = { fill: palette.background, stroke: palette.line, width: 1, radius: 5 };
      pen.box(left, first.y - 13, width, BOX_HEIGHT + 17, style);
      pen.text(left + 4, first.y - 3, `h${group.head}`, { color: palette.faint, size: 10, align: "left" });
    }
  }
}

/** One node's box, with what the detail allows in it; a dropped one is empty and dashed. */
export function paintNode(
  pen: Pen,
  scene: Scene,
  i: number,
  palette: Palette,
  detail: Detail,
  isDropped: boolean,
  outline: { readonly color: string; readonly width: number } | null = null,
): void {
  const node = scene.graph.nodes[i]!;
  const box = scene.layout.boxes[i]!;
  const shade = isDropped ? 0 : scene.nodeShades[i]!;
  const owner = scene.owners?.nodes[i] ?? "both";
  const rim =
    outline?.color ??
    (owner === "both" ? (palette.isHighContrast ? palette.text : palette.line) : palette[owner]);
  pen.box(box.x - box.width / 2, box.y, box.width, BOX_HEIGHT, {
    fill: isDropped ? palette.background : palette.fill(shade),
    stroke: rim,
    width: outline?.width ?? (owner === "both" ? 1 : 2.5),
    radius: detail.isPlain ? 0 : 4,
    isDashed: isDropped,
    title: isDropped ? `${nodeWords(node)}, off` : nodeWords(node),
  });
  if (!detail.names) return;
  const color = isDropped ? palette.faint : palette.letters(shade);
  const delta = detail.deltas ? deltaText(node.delta) : "";
  pen.text(box.x, box.y + (delta === "" ? 19 : 14), box.text, { color, size: 11.5, align: "center" });
  if (delta !== "") pen.text(box.x, box.y + 25, delta, { color, size: 9.5, align: "center" });
}
