// The circuit on a canvas: seen, moved, walked through by keyboard, and pointed at.
//
// The picture at rest is painted once into a bitmap; hovering and selecting draw a few things over
// it. While a large picture moves, its bitmap is moved, and painted anew when it has come to rest.

import { nameOf } from "../shared/nodes";
import { type Camera, fit, type Point, panned, reaching, toPicture, toScreen, zoomed } from "./camera";
import { button, h } from "./dom";
import { keyOf } from "./key";
import { LABELS_WIDTH, paintLabels } from "./labels";
import { BOX_HEIGHT } from "./layout";
import { detailAt, type Look, paintEdges, paintNode, paintScene } from "./paint";
import type { Palette } from "./palette";
import { canvasPen } from "./pen";
import { nodeWords, type Scene } from "./scene";
import { STEPS, step } from "./walk";

/** A picture that took longer than this to paint is moved as a bitmap. */
const PAINT_BUDGET_MS = 10;
const REST_MS = 90;
/** How much is left of what is not looked at. */
const DIMMED = 0.5;
const ZOOM_STEP = 1.25;
/** Room for the buttons below, in CSS pixels. */
const BUTTONS_HEIGHT = 32;
const PAN_STEP = 60;

export interface GraphEvents {
  selected(node: number | null): void;
  toggled(node: number): void;
  /** The camera has come to rest. */
  moved(camera: Camera): void;
}

export class GraphView {
  readonly element: HTMLElement;
  readonly #canvas = h("canvas", { "aria-hidden": "true" });
  readonly #marker = h("div", { id: "graph-node", class: "marker", role: "img", hidden: true });
  readonly #tip = h("div", { class: "tip", hidden: true });
  readonly #key = h("div", { class: "key" });
  readonly #announced = h("div", { class: "visually-hidden", "aria-live": "polite" });
  readonly #events: GraphEvents;
  readonly #bitmap = document.createElement("canvas");
  #bitmapCamera: Camera | null = null;
  #paintMs = 0;
  #rest: ReturnType<typeof setTimeout> | undefined;
  #scene: Scene | null = null;
  #look: Look = { edges: new Set(), showsCarried: true, dropped: new Set() };
  #palette: Palette;
  #camera: Camera = { x: 0, y: 0, zoom: 1 };
  #selected: number | null = null;
  #hovered: number | null = null;
  /** Activations under the cursor, one per node, as shares of the largest; null: none are known. */
  #active: ReadonlyMap<number, number> | null = null;
  #isDue = false;
  /** The whole picture is in view, and is to stay so when the view changes its size. */
  #isFitted = false;

  constructor(palette: Palette, events: GraphEvents) {
    this.#palette = palette;
    this.#events = events;
    this.element = h(
      "div",
      {
        class: "graph",
        role: "application",
        tabindex: 0,
        "aria-roledescription": "circuit graph",
        "aria-label": "Circuit",
        "aria-describedby": "graph-keys",
      },
      this.#canvas,
      this.#marker,
      this.#tip,
      this.#announced,
      this.#key,
      h("div", { id: "graph-keys", class: "visually-hidden" }, KEYS_IN_WORDS),
      h(
        "div",
        { class: "zoom", role: "group", "aria-label": "Zoom" },
        button("+", () => this.#zoom(ZOOM_STEP), { title: "Zoom in (+)" }),
        button("−", () => this.#zoom(1 / ZOOM_STEP), { title: "Zoom out (−)" }),
        button("⤢", () => this.fit(), { title: "Fit (0)" }),
      ),
    );
    this.#listen();
    new ResizeObserver(() => this.#resized()).observe(this.element);
  }

  /** Another circuit; it is fitted into view, or seen as `camera` says. */
  show(scene: Scene | null, camera: Camera | null = null): void {
    this.#scene = scene;
    this.#selected = this.#hovered = this.#active = null;
    this.#bitmapCamera = null;
    if (scene !== null) {
      const { info, nodes, edges } = scene.graph;
      const words = `Circuit of ${info.task} in ${info.model}: ${nodes.length} nodes, ${edges.source.length} edges`;
      this.element.setAttribute("aria-label", words);
      this.#key.replaceChildren(...keyOf(scene));
    }
    this.#isFitted = camera === null;
    if (camera === null) this.fit();
    else this.#camera = camera;
    this.#draw();
  }

  look(look: Look): void {
    this.#look = look;
    this.#bitmapCamera = null;
    this.#draw();
  }

  /** Select without telling anybody; `reach` moves it into view. */
  select(node: number | null, reach: boolean): void {
    this.#selected = node;
    const box = node === null ? undefined : this.#scene?.layout.boxes[node];
    if (reach && box !== undefined) {
      this.#camera = reaching(this.#camera, { x: box.x, y: box.y + BOX_HEIGHT / 2 }, this.#size());
    }
    this.#draw();
  }

  activate(active: ReadonlyMap<number, number> | null): void {
    this.#active = active;
    this.#draw();
  }

  recolor(palette: Palette): void {
    this.#palette = palette;
    this.#bitmapCamera = null;
    this.#draw();
  }

  fit(): void {
    const { width, height } = this.#size();
    if (this.#scene === null || width === 0) return;
    const below = Math.max(this.#key.offsetHeight, BUTTONS_HEIGHT);
    const room = { width: width - LABELS_WIDTH, height: height - below };
    const fitted = fit(this.#scene.layout, room);
    this.#move(panned(fitted, LABELS_WIDTH, 0));
    this.#isFitted = true;
  }

  get camera(): Camera {
    return this.#camera;
  }

  #size() {
    return { width: this.element.clientWidth, height: this.element.clientHeight };
  }

  #zoom(factor: number, at?: Point): void {
    const { width, height } = this.#size();
    this.#move(zoomed(this.#camera, at ?? { x: width / 2, y: height / 2 }, factor));
  }

  #move(camera: Camera): void {
    this.#isFitted = false;
    this.#camera = camera;
    this.#draw();
    clearTimeout(this.#rest);
    this.#rest = setTimeout(() => {
      this.#draw(true);
      this.#events.moved(this.#camera);
    }, REST_MS);
  }

  #resized(): void {
    const { width, height } = this.#size();
    const density = window.devicePixelRatio;
    for (const canvas of [this.#canvas, this.#bitmap]) {
      canvas.width = Math.max(1, Math.round(width * density));
      canvas.height = Math.max(1, Math.round(height * density));
    }
    this.#bitmapCamera = null;
    if (this.#isFitted) this.fit();
    this.#draw();
  }

  #draw(atRest = false): void {
    if (atRest && this.#bitmapCamera !== this.#camera) this.#bitmapCamera = null;
    if (this.#isDue) return;
    this.#isDue = true;
    requestAnimationFrame(() => {
      this.#isDue = false;
      this.#paint();
    });
  }

  #paint(): void {
    const context = this.#canvas.getContext("2d")!;
    const scene = this.#scene;
    const { width, height } = this.#size();
    const density = window.devicePixelRatio;
    context.setTransform(density, 0, 0, density, 0, 0);
    context.fillStyle = this.#palette.background;
    context.fillRect(0, 0, width, height);
    if (scene === null) return;
    const isMoving = this.#bitmapCamera !== null && this.#bitmapCamera !== this.#camera;
    if (this.#bitmapCamera === null || (isMoving && this.#paintMs < PAINT_BUDGET_MS))
      this.#paintBitmap(scene);
    const from = this.#bitmapCamera!;
    const ratio = this.#camera.zoom / from.zoom;
    const isLooking = this.#hovered !== null || this.#selected !== null;
    context.globalAlpha = isLooking ? DIMMED : 1;
    context.drawImage(
      this.#bitmap,
      this.#camera.x - from.x * ratio,
      this.#camera.y - from.y * ratio,
      width * ratio,
      height * ratio,
    );
    context.globalAlpha = 1;
    this.#paintOver(context, scene, density);
    context.setTransform(density, 0, 0, density, 0, 0);
    paintLabels(context, scene, this.#camera, this.#palette, height);
    this.#placeMarker(scene);
  }

  #paintBitmap(scene: Scene): void {
    const began = performance.now();
    const context = this.#bitmap.getContext("2d")!;
    context.setTransform(1, 0, 0, 1, 0, 0);
    context.clearRect(0, 0, this.#bitmap.width, this.#bitmap.height);
    this.#enter(context, window.devicePixelRatio);
    const detail = detailAt(this.#camera.zoom);
    paintScene(canvasPen(context, this.#palette.fontFamily), scene, this.#look, this.#palette, detail);
    this.#bitmapCamera = this.#camera;
    this.#paintMs = performance.now() - began;
  }

  #enter(context: CanvasRenderingContext2D, density: number): void {
    const { x, y, zoom } = this.#camera;
    context.setTransform(zoom * density, 0, 0, zoom * density, x * density, y * density);
  }

  /** The selected and the hovered node with what they are joined to, and what the cursor lights. */
  #paintOver(context: CanvasRenderingContext2D, scene: Scene, density: number): void {
    this.#enter(context, density);
    const pen = canvasPen(context, this.#palette.fontFamily);
    const detail = detailAt(this.#camera.zoom);
    const { source, target } = scene.graph.edges;
    const looking = [this.#selected, this.#hovered].filter((i) => i !== null);
    const edges = looking
      .flatMap((i) => [...scene.joined.in[i]!, ...scene.joined.out[i]!])
      .filter((e) => this.#look.edges.has(e));
    paintEdges(pen, scene, edges, this.#palette, { ...detail, isPlain: false });
    const near = new Set([...looking, ...edges.flatMap((e) => [source[e]!, target[e]!])]);
    for (const i of near) {
      const isSelf = looking.includes(i);
      const outline = isSelf
        ? { color: this.#palette.focus, width: Math.max(2.5, 1.5 / this.#camera.zoom) }
        : null;
      paintNode(pen, scene, i, this.#palette, detail, this.#look.dropped.has(i), outline);
    }
    for (const [i, share] of this.#active ?? []) {
      const box = scene.layout.boxes[i]!;
      const height = 4;
      pen.box(
        box.x - box.width / 2,
        box.y + BOX_HEIGHT + 2,
        Math.max(3, box.width * Math.abs(share)),
        height,
        {
          fill: this.#palette.stroke(share < 0 ? -5 : 5),
          stroke: this.#palette.text,
          width: 0,
          radius: 0,
        },
      );
    }
  }

  #placeMarker(scene: Scene): void {
    const i = this.#selected;
    const box = i === null ? undefined : scene.layout.boxes[i];
    this.#marker.hidden = box === undefined;
    if (i === null || box === undefined) {
      this.element.removeAttribute("aria-activedescendant");
      return;
    }
    const node = scene.graph.nodes[i]!;
    const at = toScreen(this.#camera, { x: box.x - box.width / 2, y: box.y });
    const { zoom } = this.#camera;
    this.#marker.style.transform = `translate(${at.x}px, ${at.y}px)`;
    this.#marker.style.width = `${box.width * zoom}px`;
    this.#marker.style.height = `${BOX_HEIGHT * zoom}px`;
    this.#marker.dataset.node = nameOf(node);
    this.#marker.setAttribute("aria-label", nodeWords(node));
    this.element.setAttribute("aria-activedescendant", this.#marker.id);
  }

  #nodeAt(at: Point): number | null {
    if (this.#scene === null || at.x < LABELS_WIDTH - 8) return null;
    const { x, y } = toPicture(this.#camera, at);
    const slack = Math.max(0, 4 / this.#camera.zoom - 4);
    const hit = this.#scene.layout.boxes.findIndex(
      (box) =>
        Math.abs(x - box.x) <= box.width / 2 + slack && y >= box.y - slack && y <= box.y + BOX_HEIGHT + slack,
    );
    return hit < 0 ? null : hit;
  }

  #choose(node: number | null): void {
    this.select(node, true);
    const words = node === null ? "nothing selected" : nodeWords(this.#scene!.graph.nodes[node]!);
    this.#announced.textContent = words;
    this.#events.selected(node);
  }

  #listen(): void {
    let grip: { at: Point; camera: Camera; hasMoved: boolean } | null = null;
    const place = (event: MouseEvent): Point => {
      const frame = this.element.getBoundingClientRect();
      return { x: event.clientX - frame.left, y: event.clientY - frame.top };
    };
    this.#canvas.addEventListener("pointerdown", (event) => {
      this.#canvas.setPointerCapture(event.pointerId);
      grip = { at: place(event), camera: this.#camera, hasMoved: false };
    });
    this.#canvas.addEventListener("pointermove", (event) => {
      const at = place(event);
      if (grip === null) return this.#hover(this.#nodeAt(at), at);
      const [dx, dy] = [at.x - grip.at.x, at.y - grip.at.y];
      if (!grip.hasMoved && Math.hypot(dx, dy) < 4) return;
      grip.hasMoved = true;
      this.element.classList.add("grabbing");
      this.#move(panned(grip.camera, dx, dy));
    });
    this.#canvas.addEventListener("pointerup", (event) => {
      if (grip !== null && !grip.hasMoved) this.#choose(this.#nodeAt(place(event)));
      grip = null;
      this.element.classList.remove("grabbing");
      this.element.focus({ preventScroll: true });
    });
    this.#canvas.addEventListener("pointerleave", () => this.#hover(null, { x: 0, y: 0 }));
    this.#canvas.addEventListener("dblclick", (event) => {
      const node = this.#nodeAt(place(event));
      if (node !== null) this.#events.toggled(node);
    });
    this.element.addEventListener(
      "wheel",
      (event) => {
        event.preventDefault();
        // A pinch arrives as a wheel with Ctrl.
        if (event.ctrlKey || event.metaKey) this.#zoom(Math.exp(-event.deltaY / 200), place(event));
        else this.#move(panned(this.#camera, -event.deltaX, -event.deltaY));
      },
      { passive: false },
    );
    this.element.addEventListener("keydown", (event) => {
      if (event.target === this.element && this.#pressed(event)) event.preventDefault();
    });
  }

  #hover(node: number | null, at: Point): void {
    if (node !== this.#hovered) {
      this.#hovered = node;
      this.#draw();
    }
    this.#tip.hidden = node === null;
    if (node === null || this.#scene === null) return;
    this.#tip.textContent = nodeWords(this.#scene.graph.nodes[node]!);
    const { width, height } = this.#size();
    const x = Math.max(4, Math.min(width - this.#tip.offsetWidth - 8, at.x + 12));
    const below = at.y + 16;
    const y = below + this.#tip.offsetHeight > height ? at.y - 16 - this.#tip.offsetHeight : below;
    this.#tip.style.transform = `translate(${x}px, ${y}px)`;
  }

  /** Whether the key was one of the graph's. */
  #pressed(event: KeyboardEvent): boolean {
    const scene = this.#scene;
    if (scene === null || event.altKey || event.metaKey || event.ctrlKey) return false;
    const how = STEPS[event.key];
    if (how !== undefined && event.shiftKey) {
      const [dx, dy] = {
        up: [0, 1],
        down: [0, -1],
        left: [1, 0],
        right: [-1, 0],
        first: [0, 0],
        last: [0, 0],
      }[how] as [number, number];
      this.#move(panned(this.#camera, dx * PAN_STEP, dy * PAN_STEP));
    } else if (how !== undefined) {
      const shown = (edge: number) => this.#look.edges.has(edge);
      this.#choose(step(how, this.#selected, scene.layout, scene.graph.edges, scene.joined, shown));
    } else if (event.key === "+" || event.key === "=") this.#zoom(ZOOM_STEP);
    else if (event.key === "-") this.#zoom(1 / ZOOM_STEP);
    else if (event.key === "0") this.fit();
    else if (event.key === "Escape") this.#choose(null);
    else if ((event.key === "x" || event.key === "Enter" || event.key === " ") && this.#selected !== null) {
      this.#events.toggled(this.#selected);
    } else return false;
    return true;
  }
}

const KEYS_IN_WORDS =
  "Arrow keys walk: up and down along the strongest edge, left and right to the next node; Home and End. " +
  "Enter or x turns the selected node off and on. Plus, minus and 0 zoom; Shift with arrows moves the picture. " +
  "Escape selects nothing.";
