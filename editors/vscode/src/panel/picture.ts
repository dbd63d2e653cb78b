// The circuit's picture on a canvas: painted once, moved as a bitmap, with a few things drawn over it.
//
// The picture at rest is painted into a bitmap; hovering and selecting draw over it. While a large
// picture moves, its bitmap is moved, and painted anew when it has come to rest.

import type { Camera, Size } from "./camera";
import { h } from "./dom";
import { paintLabels } from "./labels";
import { BOX_HEIGHT } from "./layout";
import { detailAt, type Look, paintEdges, paintNode, paintScene } from "./paint";
import type { Palette } from "./palette";
import { canvasPen } from "./pen";
import type { Scene } from "./scene";

/** A picture that took longer than this to paint is moved as a bitmap. */
const PAINT_BUDGET_MS = 10;
/** How much is left of what is not looked at; in high contrast, all. */
const DIMMED = 0.6;
/** A bar below a node says how active it is, in pixels of the picture. */
const BAR_HEIGHT = 4;
const BAR_WIDTH_MIN = 3;

/** What is drawn over the picture. */
export interface Marks {
  readonly selected: number | null;
  readonly hovered: number | null;
  /** Activations under the cursor, one per node, as shares of the largest; null: none are known. */
  readonly active: ReadonlyMap<number, number> | null;
}

export class Picture {
  readonly canvas = h("canvas", { "aria-hidden": "true" });
  readonly #bitmap = document.createElement("canvas");
  /** Where the bitmap was painted from; null: it is not what is to be seen. */
  #bitmapCamera: Camera | null = null;
  #paintMs = 0;
  #size: Size = { width: 0, height: 0 };

  resize(size: Size): void {
    this.#size = size;
    const density = window.devicePixelRatio;
    for (const canvas of [this.canvas, this.#bitmap]) {
      canvas.width = Math.max(1, Math.round(size.width * density));
      canvas.height = Math.max(1, Math.round(size.height * density));
    }
    this.#bitmapCamera = null;
  }

  /** Another scene, look or palette: what was painted is of no use. */
  forget(): void {
    this.#bitmapCamera = null;
  }

  /** The camera has come to rest here. */
  rest(camera: Camera): void {
    if (this.#bitmapCamera !== camera) this.#bitmapCamera = null;
  }

  paint(scene: Scene | null, look: Look, palette: Palette, camera: Camera, marks: Marks): void {
    const context = this.canvas.getContext("2d")!;
    const { width, height } = this.#size;
    const density = window.devicePixelRatio;
    context.setTransform(density, 0, 0, density, 0, 0);
    context.fillStyle = palette.background;
    context.fillRect(0, 0, width, height);
    if (scene === null) return;
    const isMoving = this.#bitmapCamera !== null && this.#bitmapCamera !== camera;
    if (this.#bitmapCamera === null || (isMoving && this.#paintMs < PAINT_BUDGET_MS))
      this.#paintBitmap(scene, look, palette, camera);
    const from = this.#bitmapCamera!;
    const ratio = camera.zoom / from.zoom;
    const isLooking = marks.hovered !== null || marks.selected !== null;
    context.globalAlpha = isLooking && !palette.isHighContrast ? DIMMED : 1;
    context.drawImage(
      this.#bitmap,
      camera.x - from.x * ratio,
      camera.y - from.y * ratio,
      width * ratio,
      height * ratio,
    );
    context.globalAlpha = 1;
    enter(context, camera, density);
    paintMarks(context, scene, look, palette, camera, marks);
    context.setTransform(density, 0, 0, density, 0, 0);
    paintLabels(context, scene, camera, palette, height);
  }

  #paintBitmap(scene: Scene, look: Look, palette: Palette, camera: Camera): void {
    const began = performance.now();
    const context = this.#bitmap.getContext("2d")!;
    context.setTransform(1, 0, 0, 1, 0, 0);
    context.clearRect(0, 0, this.#bitmap.width, this.#bitmap.height);
    enter(context, camera, window.devicePixelRatio);
    paintScene(canvasPen(context, palette.fontFamily), scene, look, palette, detailAt(camera.zoom));
    this.#bitmapCamera = camera;
    this.#paintMs = performance.now() - began;
  }
}

function enter(context: CanvasRenderingContext2D, { x, y, zoom }: Camera, density: number): void {
  context.setTransform(zoom * density, 0, 0, zoom * density, x * density, y * density);
}

/** The selected and the hovered node with what they are joined to, and what the cursor lights. */
function paintMarks(
  context: CanvasRenderingContext2D,
  scene: Scene,
  look: Look,
  palette: Palette,
  camera: Camera,
  { selected, hovered, active }: Marks,
): void {
  const pen = canvasPen(context, palette.fontFamily);
  const detail = detailAt(camera.zoom);
  const { source, target } = scene.graph.edges;
  const looking = [selected, hovered].filter((i) => i !== null);
  const edges = looking
    .flatMap((i) => [...scene.joined.in[i]!, ...scene.joined.out[i]!])
    .filter((e) => look.edges.has(e));
  paintEdges(pen, scene, edges, palette, { ...detail, isPlain: false });
  const near = new Set([...looking, ...edges.flatMap((e) => [source[e]!, target[e]!])]);
  for (const i of near) {
    const outline = looking.includes(i)
      ? { color: palette.focus, width: Math.max(2.5, 1.5 / camera.zoom) }
      : null;
    paintNode(pen, scene, i, palette, detail, look.dropped.has(i), outline);
  }
  for (const [i, share] of active ?? []) {
    const box = scene.layout.boxes[i]!;
    const width = Math.max(BAR_WIDTH_MIN, box.width * Math.abs(share));
    const style = { fill: palette.stroke(share < 0 ? -5 : 5), stroke: palette.text, width: 0, radius: 0 };
    pen.box(box.x - box.width / 2, box.y + BOX_HEIGHT + 2, width, BAR_HEIGHT, style);
  }
}
