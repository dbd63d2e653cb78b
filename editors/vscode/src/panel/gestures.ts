// Pointer, wheel and keys of the picture, as what they ask for.

import { type Camera, type Point, panned } from "./camera";
import { STEPS, type Step } from "./walk";

const ZOOM_STEP = 1.25;
const PAN_STEP = 60;
/** A pointer that moved less than this has clicked, in CSS pixels. */
const CLICK_REACH = 4;
/** How far a pinch or a wheel with Ctrl zooms: pixels for a factor of e. */
const WHEEL_PER_E = 200;

/** Whom gestures are for. */
export interface Gestured {
  readonly camera: Camera;
  nodeAt(at: Point): number | null;
  hover(node: number | null, at: Point): void;
  choose(node: number | null): void;
  toggle(node: number): void;
  toggleSelected(): boolean;
  walk(how: Step): void;
  move(camera: Camera): void;
  /** Around `at`; undefined: around the middle. */
  zoom(factor: number, at?: Point): void;
  fit(): void;
}

/** Hear all gestures on `element`, whose picture is on `canvas`. */
export function hearGestures(element: HTMLElement, canvas: HTMLCanvasElement, target: Gestured): void {
  hearPointer(element, canvas, target);
  element.addEventListener(
    "wheel",
    (event) => {
      event.preventDefault();
      // A pinch arrives as a wheel with Ctrl.
      if (event.ctrlKey || event.metaKey)
        target.zoom(Math.exp(-event.deltaY / WHEEL_PER_E), placeIn(element, event));
      else target.move(panned(target.camera, -event.deltaX, -event.deltaY));
    },
    { passive: false },
  );
  element.addEventListener("keydown", (event) => {
    if (event.target === element && pressed(event, target)) event.preventDefault();
  });
}

export function zoomIn(target: Gestured): void {
  target.zoom(ZOOM_STEP);
}

export function zoomOut(target: Gestured): void {
  target.zoom(1 / ZOOM_STEP);
}

function placeIn(element: HTMLElement, event: MouseEvent): Point {
  const frame = element.getBoundingClientRect();
  return { x: event.clientX - frame.left, y: event.clientY - frame.top };
}

/** A click chooses, a drag moves, a double click turns off and on. */
function hearPointer(element: HTMLElement, canvas: HTMLCanvasElement, target: Gestured): void {
  let grip: { at: Point; camera: Camera; hasMoved: boolean } | null = null;
  canvas.addEventListener("pointerdown", (event) => {
    canvas.setPointerCapture(event.pointerId);
    grip = { at: placeIn(element, event), camera: target.camera, hasMoved: false };
  });
  canvas.addEventListener("pointermove", (event) => {
    const at = placeIn(element, event);
    if (grip === null) return target.hover(target.nodeAt(at), at);
    const [dx, dy] = [at.x - grip.at.x, at.y - grip.at.y];
    if (!grip.hasMoved && Math.hypot(dx, dy) < CLICK_REACH) return;
    grip.hasMoved = true;
    element.classList.add("grabbing");
    target.move(panned(grip.camera, dx, dy));
  });
  canvas.addEventListener("pointerup", (event) => {
    if (grip !== null && !grip.hasMoved) target.choose(target.nodeAt(placeIn(element, event)));
    grip = null;
    element.classList.remove("grabbing");
    element.focus({ preventScroll: true });
  });
  canvas.addEventListener("pointerleave", () => target.hover(null, { x: 0, y: 0 }));
  canvas.addEventListener("dblclick", (event) => {
    const node = target.nodeAt(placeIn(element, event));
    if (node !== null) target.toggle(node);
  });
}

/** Directions in which Shift with an arrow moves the picture. */
const MOVES: { readonly [how in Step]: readonly [dx: number, dy: number] } = {
  up: [0, 1],
  down: [0, -1],
  left: [1, 0],
  right: [-1, 0],
  first: [0, 0],
  last: [0, 0],
};

/** Whether the key was one of the graph's. */
function pressed(event: KeyboardEvent, target: Gestured): boolean {
  if (event.altKey || event.metaKey || event.ctrlKey) return false;
  const how = STEPS[event.key];
  if (how !== undefined && event.shiftKey) {
    const [dx, dy] = MOVES[how];
    target.move(panned(target.camera, dx * PAN_STEP, dy * PAN_STEP));
  } else if (how !== undefined) target.walk(how);
  else if (event.key === "+" || event.key === "=") zoomIn(target);
  else if (event.key === "-") zoomOut(target);
  else if (event.key === "0") target.fit();
  else if (event.key === "Escape") target.choose(null);
  else if (event.key === "x" || event.key === "Enter" || event.key === " ") return target.toggleSelected();
  else return false;
  return true;
}

export const KEYS_IN_WORDS =
  "Arrow keys walk: up and down along the strongest edge, left and right to the next node; Home and End. " +
  "Enter or x turns the selected node off and on. Plus, minus and 0 zoom; Shift with arrows moves the picture. " +
  "Escape selects nothing.";
