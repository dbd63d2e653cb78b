// Colours of the picture, resolved from the editor's theme: plain rgb() strings for canvas and SVG.
//
// Colours of heat are contributed ids, so a theme or a user may change them, for text and panel
// alike; they may be translucent, and are laid over the background here. (Their ids have one dot
// only: webviews are told of no variable for the second.)

import { SHADES, type Shade } from "../shared/scale";

export interface Palette {
  readonly background: string;
  readonly text: string;
  readonly faint: string;
  readonly line: string;
  readonly box: string;
  readonly focus: string;
  readonly before: string;
  readonly after: string;
  /** Fill and letters of a shade; shade 0 is the plain box. */
  readonly fill: (shade: Shade) => string;
  readonly letters: (shade: Shade) => string;
  /** For lines, which are thin: a shade's colour without the background's share. */
  readonly stroke: (shade: Shade) => string;
  readonly isHighContrast: boolean;
  readonly fontFamily: string;
}

type Rgb = readonly [number, number, number];

/** What the theme says now. Asked again when the theme changes. */
export function readPalette(root: HTMLElement): Palette {
  const style = getComputedStyle(root);
  const variable = (name: string) => style.getPropertyValue(`--vscode-${name}`).trim();
  const pixel = onePixel();
  const over = (under: Rgb | null, ...names: readonly string[]): Rgb => {
    const found = names.map(variable).find((value) => value !== "") ?? "#808080";
    return pixel(found, under);
  };
  const background = over(null, "editor-background");
  const text = over(background, "editor-foreground", "foreground");
  const isHighContrast = document.body.matches(".vscode-high-contrast, .vscode-high-contrast-light");
  const box = isHighContrast ? background : over(background, "editorWidget-background", "sideBar-background");
  const fills = new Map<Shade, Rgb>([[0, box]]);
  const strokes = new Map<Shade, Rgb>([[0, over(background, "descriptionForeground")]]);
  for (let shade = 1; shade <= SHADES; shade++) {
    fills.set(shade, over(background, `circuit-heatPositive${shade}`));
    fills.set(-shade, over(background, `circuit-heatNegative${shade}`));
    const strong = (sign: string) => over(background, `circuit-heat${sign}Underline`);
    // Weak lines fade into the background; none disappears in it.
    const share = 0.35 + (0.65 * shade) / SHADES;
    strokes.set(shade, mixed(background, strong("Positive"), share));
    strokes.set(-shade, mixed(background, strong("Negative"), share));
  }
  const css = (rgb: Rgb | undefined) => `rgb(${(rgb ?? text).join(",")})`;
  return {
    background: css(background),
    text: css(text),
    faint: css(over(background, "descriptionForeground")),
    line: css(
      over(
        background,
        isHighContrast ? "contrastBorder" : "editorWidget-border",
        "panel-border",
        "contrastBorder",
      ),
    ),
    box: css(box),
    focus: css(over(background, "focusBorder")),
    before: css(over(background, "charts-purple")),
    after: css(over(background, "charts-green")),
    fill: (shade) => css(fills.get(shade)),
    letters: (shade) => css(shade === 0 ? text : readable(fills.get(shade) ?? box, text, background)),
    stroke: (shade) => css(strokes.get(shade)),
    isHighContrast,
    fontFamily: variable("editor-font-family") || "monospace",
  };
}

/** Call `changed` when the theme is another: that changes the body's class, the root's variables. */
export function onThemeChange(changed: () => void): void {
  const themes = new MutationObserver(changed);
  themes.observe(document.body, { attributes: true, attributeFilter: ["class"] });
  themes.observe(document.documentElement, { attributes: true, attributeFilter: ["style"] });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", changed);
}

/** Of the theme's two colours, the one with more contrast on `fill`. */
function readable(fill: Rgb, text: Rgb, background: Rgb): Rgb {
  return contrast(fill, text) >= contrast(fill, background) ? text : background;
}

function contrast(a: Rgb, b: Rgb): number {
  const [light, dark] = [luminance(a), luminance(b)].sort((x, y) => y - x) as [number, number];
  return (light + 0.05) / (dark + 0.05);
}

function luminance(rgb: Rgb): number {
  const [r, g, b] = rgb.map((c) => (c <= 10 ? c / 3294.6 : ((c / 255 + 0.055) / 1.055) ** 2.4)) as [
    number,
    number,
    number,
  ];
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
}

function mixed(a: Rgb, b: Rgb, share: number): Rgb {
  return a.map((value, i) => Math.round(value + (b[i]! - value) * share)) as unknown as Rgb;
}

/** Any CSS colour over another, as the browser itself paints it. */
function onePixel(): (color: string, under: Rgb | null) => Rgb {
  const canvas = document.createElement("canvas");
  canvas.width = canvas.height = 1;
  const context = canvas.getContext("2d", { willReadFrequently: true })!;
  return (color, under) => {
    context.clearRect(0, 0, 1, 1);
    for (const layer of [under && `rgb(${under.join(",")})`, color]) {
      if (layer === null) continue;
      context.fillStyle = "#808080";
      context.fillStyle = layer;
      context.fillRect(0, 0, 1, 1);
    }
    const [r, g, b] = context.getImageData(0, 0, 1, 1).data;
    return [r ?? 0, g ?? 0, b ?? 0];
  };
}
