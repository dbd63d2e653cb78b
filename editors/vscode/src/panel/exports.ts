// The picture as a file: SVG that stands alone, PNG of the whole circuit.

import { count, percent } from "../shared/scale";
import { BOX_HEIGHT } from "./layout";
import { FULL, type Look, paintScene } from "./paint";
import type { Palette } from "./palette";
import { canvasPen, escaped, type Pen, SvgPen } from "./pen";
import { blockWords, type Scene } from "./scene";

const MARGIN = 24;
const HEADER = 64;
const LABELS = 190;
const PNG_SIDE_MAX = 8192;
const PNG_DENSITY = 2;

function frame(scene: Scene) {
  const width = Math.max(640, 2 * MARGIN + LABELS + scene.layout.width);
  return { width, height: HEADER + scene.layout.height + 2 * MARGIN };
}

/** Title, numbers, names of layers: what stands around the picture in a file. */
function paintFrame(pen: Pen, scene: Scene, palette: Palette): void {
  const { info } = scene.graph;
  const numbers = `${count(info.k, "node")}, ${count(info.nEdges, "edge")}; loss ${info.loss.toFixed(3)}, model ${info.modelLoss.toFixed(3)}, accuracy ${percent(info.accuracy)}`;
  pen.text(MARGIN, 30, `${info.task} in ${info.model}`, {
    color: palette.text,
    size: 17,
    align: "left",
    isBold: true,
  });
  pen.text(MARGIN, 50, `${numbers}; ${info.id}`, { color: palette.faint, size: 11, align: "left" });
  let block = "";
  for (const rank of scene.layout.ranks) {
    const y = HEADER + MARGIN + rank.top;
    const words = blockWords(rank.layer, rank.half);
    if (words !== block)
      pen.text(MARGIN, y - 12, words, { color: palette.text, size: 12, align: "left", isBold: true });
    block = words;
    const middle = HEADER + MARGIN + (rank.top + rank.bottom) / 2 + 4;
    pen.text(MARGIN + 10, Math.max(y + BOX_HEIGHT / 2, middle), rank.name, {
      color: palette.faint,
      size: 11,
      align: "left",
    });
  }
}

/** The whole picture as an SVG file in the theme's colours. */
export function toSvg(scene: Scene, look: Look, palette: Palette): string {
  const { width, height } = frame(scene);
  const [around, inside] = [new SvgPen(), new SvgPen()];
  paintFrame(around, scene, palette);
  paintScene(inside, scene, look, palette, FULL);
  const size = `viewBox="0 0 ${Math.ceil(width)} ${Math.ceil(height)}" width="${Math.ceil(width)}" height="${Math.ceil(height)}"`;
  return [
    '<?xml version="1.0" encoding="UTF-8"?>',
    `<svg xmlns="http://www.w3.org/2000/svg" ${size} font-family="${escaped(palette.fontFamily)}">`,
    `<title>${escaped(`${scene.graph.info.task} in ${scene.graph.info.model}`)}</title>`,
    `<rect width="100%" height="100%" fill="${palette.background}"/>`,
    around.elements,
    `<g transform="translate(${MARGIN + LABELS} ${HEADER + MARGIN})">`,
    inside.elements,
    "</g>",
    "</svg>",
    "",
  ].join("\n");
}

/** The whole picture as a PNG in base64, at twice its size where that is not too large. */
export function toPng(scene: Scene, look: Look, palette: Palette): string {
  const { width, height } = frame(scene);
  const density = Math.min(PNG_DENSITY, PNG_SIDE_MAX / Math.max(width, height));
  const canvas = document.createElement("canvas");
  canvas.width = Math.ceil(width * density);
  canvas.height = Math.ceil(height * density);
  const context = canvas.getContext("2d")!;
  context.scale(density, density);
  context.fillStyle = palette.background;
  context.fillRect(0, 0, width, height);
  const pen = canvasPen(context, palette.fontFamily);
  paintFrame(pen, scene, palette);
  context.translate(MARGIN + LABELS, HEADER + MARGIN);
  paintScene(pen, scene, look, palette, FULL);
  return canvas.toDataURL("image/png").replace(/^data:image\/png;base64,/, "");
}
