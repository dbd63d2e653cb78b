// Small plots in SVG: a curve, points that can be chosen, and lines to compare with.

import { short } from "../shared/scale";
import { h, s } from "./dom";

export interface PlotPoint {
  readonly x: number;
  readonly y: number;
  /** In words, for tooltip and screen reader. */
  readonly words?: string;
  readonly isCurrent?: boolean;
  readonly choose?: () => void;
}

export interface PlotOptions {
  readonly title: string;
  readonly xName: string;
  readonly yName: string;
  readonly curve?: readonly PlotPoint[];
  readonly points?: readonly PlotPoint[];
  /** Horizontal lines, named. */
  readonly levels?: readonly { readonly y: number; readonly name: string }[];
}

const WIDTH = 340;
const HEIGHT = 190;
const LEFT = 44;
const RIGHT = 10;
const TOP = 12;
const BOTTOM = 34;
const N_TICKS = 4;

/** The plot as a figure; what it shows is said in its caption. */
export function plot({
  title,
  xName,
  yName,
  curve = [],
  points = [],
  levels = [],
}: PlotOptions): HTMLElement {
  const all = [...curve, ...points];
  if (all.length === 0) return h("p", { class: "faint" }, `${title}: nothing was recorded.`);
  const xs = all.map((point) => point.x);
  const ys = [...all.map((point) => point.y), ...levels.map((level) => level.y)];
  const [x0, x1] = room(Math.min(...xs), Math.max(...xs), points.length > 0 ? 0.05 : 0);
  const [, y1] = room(0, Math.max(...ys), 0.05);
  const toX = (x: number) => LEFT + ((x - x0) / (x1 - x0)) * (WIDTH - LEFT - RIGHT);
  const toY = (y: number) => HEIGHT - BOTTOM - (Math.max(0, y) / y1) * (HEIGHT - TOP - BOTTOM);
  const svg = s("svg", {
    viewBox: `0 0 ${WIDTH} ${HEIGHT}`,
    class: "plot",
    role: "group",
    "aria-label": title,
  });
  for (const y of ticks(0, y1)) {
    svg.append(
      s("line", { class: "grid", x1: LEFT, x2: WIDTH - RIGHT, y1: toY(y), y2: toY(y) }),
      s("text", { class: "tick", x: LEFT - 5, y: toY(y) + 3.5, "text-anchor": "end" }, short(y)),
    );
  }
  for (const x of ticks(x0, x1)) {
    svg.append(
      s("text", { class: "tick", x: toX(x), y: HEIGHT - BOTTOM + 14, "text-anchor": "middle" }, short(x)),
    );
  }
  svg.append(
    s("text", { class: "axis", x: (LEFT + WIDTH) / 2, y: HEIGHT - 5, "text-anchor": "middle" }, xName),
    s(
      "text",
      {
        class: "axis",
        x: 10,
        y: HEIGHT / 2,
        transform: `rotate(-90 10 ${HEIGHT / 2})`,
        "text-anchor": "middle",
      },
      yName,
    ),
  );
  for (const { y, name } of levels) {
    svg.append(
      s("line", { class: "level", x1: LEFT, x2: WIDTH - RIGHT, y1: toY(y), y2: toY(y) }),
      s("text", { class: "tick", x: WIDTH - RIGHT, y: toY(y) - 3, "text-anchor": "end" }, name),
    );
  }
  if (curve.length > 0) {
    const path = curve.map(
      (point, i) => `${i === 0 ? "M" : "L"}${toX(point.x).toFixed(1)} ${toY(point.y).toFixed(1)}`,
    );
    svg.append(s("path", { class: "curve", d: path.join("") }));
  }
  for (const point of points) svg.append(dot(point, toX(point.x), toY(point.y)));
  return h("figure", {}, h("figcaption", {}, title), svg);
}

function dot(point: PlotPoint, x: number, y: number): SVGElement {
  const { words = "", isCurrent, choose } = point;
  const circle = s(
    "circle",
    {
      class: `dot${isCurrent ? " current" : ""}`,
      cx: x,
      cy: y,
      r: isCurrent ? 6 : 4.5,
      tabindex: choose === undefined ? null : 0,
      role: choose === undefined ? "img" : "button",
      "aria-label": words,
      "aria-current": isCurrent ? "true" : null,
    },
    s("title", {}, words),
  );
  if (choose !== undefined) {
    circle.addEventListener("click", choose);
    circle.addEventListener("keydown", (event) => {
      if (event.key === "Enter" || event.key === " ") choose();
    });
  }
  return circle;
}

function room(low: number, high: number, share: number): [number, number] {
  const span = high - low || Math.abs(high) || 1;
  return [low - share * span, high + share * span];
}

/** Round numbers between the two, about N_TICKS of them. */
export function ticks(low: number, high: number): number[] {
  const rough = (high - low) / N_TICKS;
  const power = 10 ** Math.floor(Math.log10(rough));
  const size = [1, 2, 2.5, 5, 10].find((step) => step * power >= rough) ?? 10;
  const found: number[] = [];
  for (let n = Math.ceil(low / (size * power)); n * size * power <= high + 1e-9 * (high - low); n++) {
    found.push(Number((n * size * power).toPrecision(6)));
  }
  return found;
}
