// The circuit as something to look at: seen, moved, walked through by keyboard, and pointed at.

import { nameOf } from "../shared/nodes";
import {
  type Camera,
  fit,
  type Point,
  panned,
  reaching,
  type Size,
  toPicture,
  toScreen,
  zoomed,
} from "./camera";
import { button, h } from "./dom";
import { type Gestured, hearGestures, KEYS_IN_WORDS, zoomIn, zoomOut } from "./gestures";
import { keyOf } from "./key";
import { LABELS_WIDTH } from "./labels";
import { BOX_HEIGHT } from "./layout";
import type { Look } from "./paint";
import type { Palette } from "./palette";
import { Picture } from "./picture";
import { nodeWords, type Scene } from "./scene";
import { type Step, step } from "./walk";

/** The camera rests when it was not moved for this long. */
const REST_MS = 90;
/** Room for the buttons below, in CSS pixels. */
const BUTTONS_HEIGHT = 32;

export interface GraphEvents {
  selected(node: number | null): void;
  toggled(node: number): void;
  /** The camera has come to rest. */
  moved(camera: Camera): void;
}

export class GraphView implements Gestured {
  readonly element: HTMLElement;
  readonly #picture = new Picture();
  readonly #marker = h("div", { id: "graph-node", class: "marker", role: "img", hidden: true });
  readonly #tip = h("div", { class: "tip", hidden: true });
  readonly #key = h("div", { class: "key" });
  readonly #followed = h("div", { class: "followed", role: "status", hidden: true });
  readonly #announced = h("div", { class: "visually-hidden", "aria-live": "polite" });
  readonly #events: GraphEvents;
  #rest: ReturnType<typeof setTimeout> | undefined;
  #scene: Scene | null = null;
  #look: Look = { edges: new Set(), showsCarried: true, dropped: new Set() };
  #palette: Palette;
  #camera: Camera = { x: 0, y: 0, zoom: 1 };
  #selected: number | null = null;
  #hovered: number | null = null;
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
      this.#picture.canvas,
      this.#marker,
      this.#tip,
      this.#announced,
      this.#followed,
      this.#key,
      h("div", { id: "graph-keys", class: "visually-hidden" }, KEYS_IN_WORDS),
      h(
        "div",
        { class: "zoom", role: "group", "aria-label": "Zoom" },
        button("+", () => zoomIn(this), { title: "Zoom in (+)" }),
        button("−", () => zoomOut(this), { title: "Zoom out (−)" }),
        button("⤢", () => this.fit(), { title: "Fit (0)" }),
      ),
    );
    hearGestures(this.element, this.#picture.canvas, this);
    new ResizeObserver(() => this.#resized()).observe(this.element);
  }

  /** Another circuit; it is fitted into view, or seen as `camera` says. */
  show(scene: Scene, camera: Camera | null = null): void {
    this.#scene = scene;
    this.#selected = this.#active = null;
    this.#unhover();
    this.#picture.forget();
    const { info, nodes, edges } = scene.graph;
    const words = `Circuit of ${info.task} in ${info.model}: ${nodes.length} nodes, ${edges.source.length} edges`;
    this.element.setAttribute("aria-label", words);
    this.#key.replaceChildren(...keyOf(scene));
    this.#isFitted = camera === null;
    if (camera === null) this.fit();
    else this.#camera = camera;
    this.#draw();
  }

  look(look: Look): void {
    this.#look = look;
    this.#picture.forget();
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

  /** Bars under nodes, as shares of the longest, and in words what they are of; null: none. */
  activate(active: ReadonlyMap<number, number> | null, words: string | null): void {
    const hasBand = words !== null;
    const isOther = hasBand === this.#followed.hidden;
    this.#active = active;
    this.#followed.textContent = words;
    this.#followed.hidden = !hasBand;
    if (isOther && this.#isFitted) this.fit();
    this.#draw();
  }

  recolor(palette: Palette): void {
    this.#palette = palette;
    this.#picture.forget();
    this.#draw();
  }

  // ------------------------------------------------------------------------------ gestures ask for

  get camera(): Camera {
    return this.#camera;
  }

  nodeAt(at: Point): number | null {
    if (this.#scene === null || at.x < LABELS_WIDTH - 8) return null;
    const { x, y } = toPicture(this.#camera, at);
    const slack = Math.max(0, 4 / this.#camera.zoom - 4);
    const hit = this.#scene.layout.boxes.findIndex(
      (box) =>
        Math.abs(x - box.x) <= box.width / 2 + slack && y >= box.y - slack && y <= box.y + BOX_HEIGHT + slack,
    );
    return hit < 0 ? null : hit;
  }

  hover(node: number | null, at: Point): void {
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

  choose(node: number | null): void {
    this.select(node, true);
    const chosen = node === null ? undefined : this.#scene?.graph.nodes[node];
    this.#announced.textContent = chosen === undefined ? "nothing selected" : nodeWords(chosen);
    this.#events.selected(node);
  }

  toggle(node: number): void {
    this.#events.toggled(node);
  }

  toggleSelected(): boolean {
    if (this.#selected === null) return false;
    this.#events.toggled(this.#selected);
    return true;
  }

  walk(how: Step): void {
    if (this.#scene === null) return;
    const { layout, graph, joined } = this.#scene;
    const isShown = (edge: number) => this.#look.edges.has(edge);
    this.choose(step(how, this.#selected, layout, graph.edges, joined, isShown));
  }

  zoom(factor: number, at?: Point): void {
    const { width, height } = this.#size();
    this.move(zoomed(this.#camera, at ?? { x: width / 2, y: height / 2 }, factor));
  }

  move(camera: Camera): void {
    this.#isFitted = false;
    this.#camera = camera;
    this.#unhover();
    this.#draw();
    clearTimeout(this.#rest);
    this.#rest = setTimeout(() => {
      this.#picture.rest(this.#camera);
      this.#draw();
      this.#events.moved(this.#camera);
    }, REST_MS);
  }

  fit(): void {
    const { width, height } = this.#size();
    if (this.#scene === null || width === 0) return;
    const below = Math.max(this.#key.offsetHeight, BUTTONS_HEIGHT);
    const above = this.#followed.offsetHeight;
    const room = { width: width - LABELS_WIDTH, height: height - below - above };
    const fitted = fit(this.#scene.layout, room);
    this.move(panned(fitted, LABELS_WIDTH, above));
    this.#isFitted = true;
  }

  // ------------------------------------------------------------------------------ drawing

  #size(): Size {
    return { width: this.element.clientWidth, height: this.element.clientHeight };
  }

  #resized(): void {
    this.#picture.resize(this.#size());
    this.#unhover();
    if (this.#isFitted) this.fit();
    this.#draw();
  }

  /** What lies under the pointer is another, and nobody says which before the pointer moves. */
  #unhover(): void {
    this.hover(null, { x: 0, y: 0 });
  }

  #draw(): void {
    if (this.#isDue) return;
    this.#isDue = true;
    requestAnimationFrame(() => {
      this.#isDue = false;
      const marks = { selected: this.#selected, hovered: this.#hovered, active: this.#active };
      this.#picture.paint(this.#scene, this.#look, this.#palette, this.#camera, marks);
      this.#placeMarker();
    });
  }

  /** An element where the selected node is, for screen readers. */
  #placeMarker(): void {
    const i = this.#selected;
    const box = i === null ? undefined : this.#scene?.layout.boxes[i];
    const node = i === null ? undefined : this.#scene?.graph.nodes[i];
    this.#marker.hidden = box === undefined;
    if (box === undefined || node === undefined) {
      this.element.removeAttribute("aria-activedescendant");
      return;
    }
    const at = toScreen(this.#camera, { x: box.x - box.width / 2, y: box.y });
    const { zoom } = this.#camera;
    this.#marker.style.transform = `translate(${at.x}px, ${at.y}px)`;
    this.#marker.style.width = `${box.width * zoom}px`;
    this.#marker.style.height = `${BOX_HEIGHT * zoom}px`;
    this.#marker.dataset.node = nameOf(node);
    this.#marker.setAttribute("aria-label", nodeWords(node));
    this.element.setAttribute("aria-activedescendant", this.#marker.id);
  }
}
