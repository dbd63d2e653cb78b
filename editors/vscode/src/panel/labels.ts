// Names of layers and rows beside the picture: they stay in sight while it moves.

import { signed } from "../shared/scale";
import type { Camera } from "./camera";
import { BOX_HEIGHT } from "./layout";
import type { Palette } from "./palette";
import { canvasPen } from "./pen";
import { blockWords, type Scene } from "./scene";

/** Room for the labels, in CSS pixels. */
export const LABELS_WIDTH = 168;
/** A half block whose delta is above this is marked: the task leans on it. */
const MARKED_FROM = 0.3;
const LINE = 15;

/** Drawn in screen space, over the picture. Labels that would lie on each other are left out. */
export function paintLabels(
  context: CanvasRenderingContext2D,
  scene: Scene,
  camera: Camera,
  palette: Palette,
  height: number,
): void {
  const pen = canvasPen(context, palette.fontFamily);
  context.globalAlpha = 0.9;
  pen.box(0, 0, LABELS_WIDTH - 8, height, {
    fill: palette.background,
    stroke: palette.line,
    width: 0,
    radius: 0,
  });
  context.globalAlpha = 1;
  let free = 4;
  let block = "";
  for (const rank of scene.layout.ranks) {
    const words = blockWords(rank.layer, rank.half);
    const top = rank.top * camera.zoom + camera.y;
    const middle = ((rank.top + rank.bottom) / 2) * camera.zoom + camera.y;
    if (words !== block) {
      block = words;
      const delta = scene.graph.halfBlocks.find((x) => x.layer === rank.layer && x.half === rank.half)?.delta;
      const y = Math.max(free + LINE - 4, top - (rank.layer === null ? 2 : 14 * Math.min(1, camera.zoom)));
      if (y > height + LINE) break;
      const isMarked = delta !== undefined && delta > MARKED_FROM;
      if (y >= LINE && y - LINE + 4 >= free) {
        pen.text(8, y, words, { color: palette.text, size: 12, align: "left", isBold: true });
        free = y + 3;
        if (delta !== undefined && camera.zoom > 0.3) {
          const color = isMarked ? palette.stroke(5) : palette.faint;
          pen.text(8, y + 13, `${isMarked ? "● " : ""}${signed(delta)} without it`, {
            color,
            size: 10.5,
            align: "left",
          });
          free += 13;
        }
      }
    }
    const y = middle + 4;
    if (camera.zoom * BOX_HEIGHT > 9 && y - 9 > free && y < height) {
      pen.text(20, y, rank.name, { color: palette.faint, size: 11, align: "left" });
      free = y + 3;
    }
  }
}
