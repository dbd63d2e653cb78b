// What a picture is drawn with: the same few strokes on a canvas and in an SVG file.

/** Dashes grow with the width; dots are for what is no edge. */
export type Line = "solid" | "dashed" | "dotted";

export interface Stroke {
  readonly color: string;
  readonly width: number;
  readonly line: Line;
}

export interface Fill {
  readonly fill: string;
  readonly stroke: string;
  readonly width: number;
  readonly radius: number;
  readonly isDashed?: boolean;
  /** Said by a tooltip, where there are tooltips. */
  readonly title?: string;
}

export interface Letters {
  readonly color: string;
  readonly size: number;
  readonly align: "left" | "center";
  readonly isBold?: boolean;
}

/** Curves from one point down to another, four numbers each. */
export type Curves = number[];

export interface Pen {
  /** All curves in one stroke: thousands of them cost little. `isPlain`: straight lines will do. */
  curves(curves: Curves, stroke: Stroke, isPlain: boolean): void;
  box(x: number, y: number, width: number, height: number, fill: Fill): void;
  text(x: number, y: number, text: string, letters: Letters): void;
}

/** Lengths of a line's strokes and gaps. */
function dashes(line: Line, width: number): number[] {
  if (line === "solid") return [];
  return line === "dotted" ? [1.5, 4] : [3 + 1.5 * width, 2 + 0.8 * width];
}

/** How far the two handles of a curve reach. */
function bend(y0: number, y1: number): number {
  // Far apart, the bends stay near the ends, so that the way between is straight.
  return y1 > y0 ? Math.min(60, (y1 - y0) / 2) : 30;
}

/** On a canvas whose transform the caller has set. */
export function canvasPen(context: CanvasRenderingContext2D, fontFamily: string): Pen {
  return {
    curves(curves, stroke, isPlain) {
      context.beginPath();
      for (let i = 0; i < curves.length; i += 4) {
        const [x0, y0, x1, y1] = [curves[i]!, curves[i + 1]!, curves[i + 2]!, curves[i + 3]!];
        context.moveTo(x0, y0);
        if (isPlain) context.lineTo(x1, y1);
        else {
          const reach = bend(y0, y1);
          context.bezierCurveTo(x0, y0 + reach, x1, y1 - reach, x1, y1);
        }
      }
      context.strokeStyle = stroke.color;
      context.lineWidth = stroke.width;
      context.setLineDash(isPlain ? [] : dashes(stroke.line, stroke.width));
      context.stroke();
      context.setLineDash([]);
    },
    box(x, y, width, height, { fill, stroke, width: lineWidth, radius, isDashed }) {
      context.beginPath();
      if (radius > 0) context.roundRect(x, y, width, height, radius);
      else context.rect(x, y, width, height);
      context.fillStyle = fill;
      context.fill();
      if (lineWidth > 0) {
        context.strokeStyle = stroke;
        context.lineWidth = lineWidth;
        context.setLineDash(isDashed ? dashes("dashed", lineWidth) : []);
        context.stroke();
        context.setLineDash([]);
      }
    },
    text(x, y, text, { color, size, align, isBold }) {
      context.font = `${isBold ? "bold " : ""}${size}px ${fontFamily}`;
      context.textAlign = align;
      context.fillStyle = color;
      context.fillText(text, x, y);
    },
  };
}

/** Collects the elements of an SVG file. */
export class SvgPen implements Pen {
  readonly #parts: string[] = [];

  get elements(): string {
    return this.#parts.join("\n");
  }

  curves(curves: Curves, stroke: Stroke, isPlain: boolean): void {
    const path: string[] = [];
    for (let i = 0; i < curves.length; i += 4) {
      const [x0, y0, x1, y1] = [curves[i]!, curves[i + 1]!, curves[i + 2]!, curves[i + 3]!];
      const reach = bend(y0, y1);
      path.push(
        isPlain
          ? `M${at(x0)} ${at(y0)}L${at(x1)} ${at(y1)}`
          : `M${at(x0)} ${at(y0)}C${at(x0)} ${at(y0 + reach)} ${at(x1)} ${at(y1 - reach)} ${at(x1)} ${at(y1)}`,
      );
    }
    const dash =
      stroke.line === "solid"
        ? ""
        : ` stroke-dasharray="${dashes(stroke.line, stroke.width).map(at).join(" ")}"`;
    this.#parts.push(
      `<path d="${path.join("")}" fill="none" stroke="${stroke.color}" stroke-width="${at(stroke.width)}"${dash}/>`,
    );
  }

  box(x: number, y: number, width: number, height: number, fill: Fill): void {
    const dash = fill.isDashed ? ` stroke-dasharray="${dashes("dashed", fill.width).map(at).join(" ")}"` : "";
    const title = fill.title === undefined ? "" : `<title>${escaped(fill.title)}</title>`;
    this.#parts.push(
      `<rect x="${at(x)}" y="${at(y)}" width="${at(width)}" height="${at(height)}" rx="${fill.radius}" ` +
        `fill="${fill.fill}" stroke="${fill.stroke}" stroke-width="${at(fill.width)}"${dash}>${title}</rect>`,
    );
  }

  text(x: number, y: number, text: string, { color, size, align, isBold }: Letters): void {
    const anchor = align === "center" ? ' text-anchor="middle"' : "";
    const weight = isBold ? ' font-weight="bold"' : "";
    this.#parts.push(
      `<text x="${at(x)}" y="${at(y)}" font-size="${size}" fill="${color}"${anchor}${weight}>${escaped(text)}</text>`,
    );
  }
}

/** Text for an XML element or attribute, without what XML forbids. */
export function escaped(text: string): string {
  return (
    text
      // biome-ignore lint/suspicious/noControlCharactersInRegex: those are what XML forbids
      .replace(/[\u0000-\u0008\u000b\u000c\u000e-\u001f\ufffe\uffff]|\p{Surrogate}/gu, "\ufffd")
      .replaceAll("&", "&amp;")
      .replaceAll("<", "&lt;")
      .replaceAll(">", "&gt;")
      .replaceAll('"', "&quot;")
  );
}

function at(value: number): string {
  return String(Math.round(value * 10) / 10);
}
