// Which part of the picture is seen: a pan and a zoom, as a value.

/** Screen = picture * zoom + (x, y), in CSS pixels. */
export interface Camera {
  readonly x: number;
  readonly y: number;
  readonly zoom: number;
}

export interface Size {
  readonly width: number;
  readonly height: number;
}

export interface Point {
  readonly x: number;
  readonly y: number;
}

const ZOOM_MIN = 0.02;
const ZOOM_MAX = 4;
const FIT_MARGIN = 24;

/** The whole picture in the view, never larger than life. */
export function fit(picture: Size, view: Size): Camera {
  const room = (length: number) => Math.max(1, length - 2 * FIT_MARGIN);
  const zoom = clamp(
    Math.min(
      1,
      room(view.width) / Math.max(1, picture.width),
      room(view.height) / Math.max(1, picture.height),
    ),
  );
  return {
    zoom,
    x: (view.width - picture.width * zoom) / 2,
    y: Math.max(FIT_MARGIN, (view.height - picture.height * zoom) / 2),
  };
}

/** Zoomed by `factor` so that what is under `at` stays there. */
export function zoomed(camera: Camera, at: Point, factor: number): Camera {
  const zoom = clamp(camera.zoom * factor);
  const real = zoom / camera.zoom;
  return { zoom, x: at.x - (at.x - camera.x) * real, y: at.y - (at.y - camera.y) * real };
}

export function panned(camera: Camera, dx: number, dy: number): Camera {
  return { ...camera, x: camera.x + dx, y: camera.y + dy };
}

export function toScreen(camera: Camera, point: Point): Point {
  return { x: point.x * camera.zoom + camera.x, y: point.y * camera.zoom + camera.y };
}

export function toPicture(camera: Camera, point: Point): Point {
  return { x: (point.x - camera.x) / camera.zoom, y: (point.y - camera.y) / camera.zoom };
}

/** Moved as little as it takes for `point` (of the picture) to be well inside the view. */
export function reaching(camera: Camera, point: Point, view: Size): Camera {
  const margin = Math.min(FIT_MARGIN, view.width / 4, view.height / 4);
  const at = toScreen(camera, point);
  const into = (value: number, length: number) =>
    value < margin ? margin - value : value > length - margin ? length - margin - value : 0;
  const [dx, dy] = [into(at.x, view.width), into(at.y, view.height)];
  return dx === 0 && dy === 0 ? camera : panned(camera, dx, dy);
}

function clamp(zoom: number): number {
  return Math.min(ZOOM_MAX, Math.max(ZOOM_MIN, zoom));
}
