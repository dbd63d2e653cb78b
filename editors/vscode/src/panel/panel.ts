// The panel: what is shown, what the user does, and what others do in the session meanwhile.

import type { CircuitGraph, CircuitInfo, DaemonStatus, Node, SessionState } from "../protocol.generated";
import type { Border } from "../shared/contract";
import { indexOf, meanAblated, nameOf } from "../shared/nodes";
import { Ablations } from "./ablations";
import { Comparing } from "./comparing";
import { h } from "./dom";
import { exportAs } from "./exporting";
import { GraphView } from "./graphView";
import { absence, heading } from "./heading";
import { type Host, sentenceOf } from "./host";
import { type Inspected, Inspector } from "./inspector";
import { type Kept, readKept } from "./kept";
import { LABELS_WIDTH } from "./labels";
import { Masks } from "./masks";
import type { Look } from "./paint";
import { onThemeChange, type Palette, readPalette } from "./palette";
import { Samples } from "./samples";
import { activity, activityWords, type Scene, sceneOf, shownEdges } from "./scene";
import { isNamed, SessionLink } from "./sessionLink";
import { type ExportKind, Toolbar } from "./toolbar";

export class Panel {
  readonly #host: Host;
  readonly #root: HTMLElement;
  readonly #toolbar: Toolbar;
  readonly #graphView: GraphView;
  readonly #inspector: Inspector;
  readonly #top = h("div", { class: "top" });
  readonly #absence = h("div", {});
  readonly #body: HTMLElement;
  #palette: Palette;
  #kept: Kept;
  #infos: readonly CircuitInfo[] = [];
  #graph: CircuitGraph | null = null;
  #scene: Scene | null = null;
  #selected: number | null = null;
  readonly #off: Ablations;
  readonly #masks: Masks;
  readonly #comparing: Comparing;
  readonly #samples: Samples;
  readonly #session: SessionLink;
  #status: DaemonStatus | null = null;
  #focus: Border<"Focus"> | null = null;
  #failure: string | null = null;
  #edgesAtFirst = 400;
  #showing: AbortController | null = null;

  constructor(host: Host, root: HTMLElement) {
    this.#host = host;
    this.#root = root;
    this.#kept = readKept(host.restore());
    this.#palette = readPalette(root);
    this.#samples = new Samples(host);
    this.#masks = new Masks(host);
    this.#comparing = new Comparing(host);
    this.#off = new Ablations(host, () => this.#render());
    this.#session = new SessionLink(host, (why) => this.#inspector.complain(sentenceOf(why)));
    this.#toolbar = new Toolbar(
      {
        open: (circuit) => this.#open(circuit, true),
        change: (change) => this.#change(change),
        export: (kind) => this.#quietly(this.#export(kind)),
      },
      host.isLive,
    );
    this.#graphView = new GraphView(this.#palette, {
      selected: (node) => this.#select(node, true),
      toggled: (node) => this.#toggle(node),
      moved: (camera) => this.#keep({ camera }),
    });
    this.#inspector = new Inspector((tab) => {
      this.#keep({ tab });
      this.#showTab();
    });
    this.#body = h("main", {}, this.#graphView.element, this.#inspector.element);
    root.replaceChildren(this.#top, this.#toolbar.element, this.#body, this.#absence);
    this.#listen();
    this.#render();
    host.ready();
  }

  #listen(): void {
    const host = this.#host;
    host.on("options", ({ edgesShown }) => {
      this.#edgesAtFirst = edgesShown;
      if (this.#kept.follows) this.#quietly(host.ask("panel/follow", { on: true }));
    });
    host.on("status", (status) => this.#statusChanged(status));
    host.on("session", (session) => this.#sessionChanged(session));
    host.on("catalogue", ({ what }) => {
      if (!what.includes("circuits")) return;
      this.#masks.forget();
      this.#quietly(this.#list());
    });
    host.on("focus", (focus) => this.#focusChanged(focus));
    host.on("show", ({ circuit }) => this.#quietly(this.#begin(circuit)));
    onThemeChange(() => {
      this.#palette = readPalette(this.#root);
      this.#graphView.recolor(this.#palette);
    });
  }

  // ------------------------------------------------------------------------------ which circuit

  async #begin(circuit: string | null): Promise<void> {
    await this.#list();
    const wanted =
      circuit ??
      this.#kept.circuit ??
      this.#session.state?.circuit ??
      this.#infos.find((x) => x.broken === null)?.id;
    if (wanted === undefined) {
      this.#failure =
        this.#status?.state === "connected" ? "There are no circuits yet: prune a task to find one." : null;
      this.#render();
    } else await this.#open(wanted, circuit !== null, wanted === this.#kept.circuit);
  }

  async #list(): Promise<void> {
    try {
      this.#infos = (await this.#host.ask("circuit/circuits/list", {})).circuits;
    } catch (error) {
      this.#failure = sentenceOf(error);
    }
    this.#toolbar.circuits(this.#infos, this.#graph?.info.id ?? null);
  }

  /** Show `circuit`; `tell` moves the session, too; `again` keeps how it was looked at. */
  async #open(circuit: string, tell: boolean, again = false): Promise<void> {
    this.#showing?.abort();
    const mine = new AbortController();
    this.#showing = mine;
    try {
      const graph = await this.#host.ask("circuit/circuits/show", { circuit }, mine.signal);
      this.#failure = null;
      this.#keep(
        again ? { circuit: graph.info.id } : { circuit: graph.info.id, compare: null, camera: null },
      );
      if (!again) this.#comparing.stop();
      this.#adopt(graph);
      if (tell)
        this.#tell({
          circuit: graph.info.id,
          model: graph.info.model,
          task: graph.info.task,
          k: graph.info.k,
        });
      if (this.#kept.compare !== null) await this.#compare(this.#kept.compare);
    } catch (error) {
      if (mine.signal.aborted) return;
      this.#failure = sentenceOf(error);
      this.#render();
    }
  }

  #adopt(graph: CircuitGraph): void {
    this.#graph = graph;
    this.#setScene(sceneOf(graph, null, this.#viewWidth()), this.#kept.camera);
    this.#followSession();
    this.#toolbar.circuits(this.#infos, graph.info.id);
    this.#render();
    if (this.#off.nodes.length > 0) this.#quietly(this.#off.measure(graph));
  }

  #viewWidth(): number {
    this.#body.hidden = false; // what is hidden has no width
    return Math.max(0, this.#graphView.element.clientWidth - LABELS_WIDTH);
  }

  #setScene(scene: Scene, camera: Kept["camera"]): void {
    const name = this.#nodeName() ?? this.#kept.node;
    this.#scene = scene;
    this.#graphView.show(scene, camera);
    this.#selected = (name === null ? undefined : indexOf(scene.graph).get(name)) ?? null;
    this.#graphView.select(this.#selected, false);
    this.#activate();
    if (this.#selected !== null) this.#quietly(this.#loadSamples());
  }

  async #compare(other: string | null): Promise<void> {
    this.#keep({ compare: other });
    this.#comparing.stop();
    const shown = this.#graph;
    if (shown === null) return;
    if (other === null) this.#setScene(sceneOf(shown, null, this.#viewWidth()), null);
    else {
      const both = this.#comparing.lay(other, shown);
      this.#render();
      const union = await both;
      if (union !== null) this.#setScene(sceneOf(union.graph, union, this.#viewWidth()), null);
    }
    this.#render();
  }

  // ------------------------------------------------------------------------------ which node

  #node(): Node | null {
    const node = this.#selected === null ? undefined : this.#scene?.graph.nodes[this.#selected];
    return node === undefined ? null : { site: node.site, channel: node.channel };
  }

  #nodeName(): string | null {
    const node = this.#node();
    return node && nameOf(node);
  }

  #select(node: number | null, tell: boolean): void {
    this.#selected = node;
    this.#graphView.select(node, !tell);
    this.#keep({ node: this.#nodeName() });
    if (tell) {
      this.#tell({ node: this.#node() });
      if (node !== null && this.#kept.tab !== "compare") this.#keep({ tab: "node" });
    }
    this.#render();
    if (node !== null) this.#quietly(this.#loadSamples());
  }

  #selectNamed(name: string): (() => void) | undefined {
    const i = this.#scene === null ? undefined : indexOf(this.#scene.graph).get(name);
    if (i === undefined) return undefined;
    return () => {
      this.#select(i, true);
      this.#graphView.select(i, true);
    };
  }

  async #loadSamples(): Promise<void> {
    const node = this.#node();
    if (node === null || this.#graph === null) return;
    const { uri } = this.#focus ?? { uri: null };
    await this.#samples.load(node, this.#graph.info, uri, () => this.#showTab());
  }

  // ------------------------------------------------------------------------------ nodes off and on

  #toggle(i: number): void {
    const node = this.#scene?.graph.nodes[i];
    if (!this.#host.isLive || node === undefined || this.#scene?.owners?.nodes[i] === "before") return;
    this.#drop(this.#off.toggled(node));
  }

  #drop(nodes: readonly Node[]): void {
    this.#off.set(nodes);
    this.#tell({ interventions: this.#off.interventions(this.#session.state?.interventions ?? []) });
    this.#samples.stop();
    this.#quietly(this.#off.measure(this.#graph).then(() => this.#loadSamples()));
  }

  async #save(): Promise<void> {
    const saved = await this.#off.measure(this.#graph, true);
    if (saved === null || saved.circuit === null) return;
    this.#drop([]);
    await this.#open(saved.circuit, true);
  }

  // ------------------------------------------------------------------------------ the session

  #tell(patch: Border<"SessionPatch">): void {
    if (this.#host.isLive && !this.#kept.isPaused) this.#session.tell(patch);
  }

  #sessionChanged(session: SessionState): void {
    if (!this.#session.heard(session) || this.#kept.isPaused) return;
    const { circuit } = session;
    const isOther = circuit !== null && (this.#graph === null || !isNamed(circuit, this.#graph.info));
    if (isOther && !this.#kept.isPinned) this.#quietly(this.#open(circuit, false));
    else this.#followSession();
  }

  /** Node and ablations as the session has them. */
  #followSession(): void {
    const session = this.#session.state;
    if (session === null || this.#scene === null || this.#kept.isPaused) return;
    const dropped = meanAblated(session.interventions);
    if (this.#off.set(dropped)) this.#quietly(this.#off.measure(this.#graph));
    const i = session.node === null ? undefined : indexOf(this.#scene.graph).get(nameOf(session.node));
    if (i !== undefined && i !== this.#selected) this.#select(i, false);
  }

  #statusChanged(status: DaemonStatus): void {
    const isBack = status.state === "connected" && this.#status?.state !== "connected";
    this.#status = status;
    if (isBack && (this.#graph === null || this.#infos.length === 0)) this.#quietly(this.#begin(null));
    else this.#render();
  }

  #focusChanged(focus: Border<"Focus">): void {
    const isOther = focus.uri !== this.#focus?.uri;
    this.#focus = focus;
    this.#activate();
    if (isOther && this.#selected !== null) this.#quietly(this.#loadSamples());
    if (isOther) this.#showTab();
  }

  /** Bars under the nodes that are active at the token under the cursor. */
  #activate(): void {
    if (!this.#kept.follows || this.#scene === null) {
      this.#graphView.activate(null, null);
      return;
    }
    const token = this.#focus?.token ?? null;
    const active = activity(this.#scene, token?.nodes ?? []);
    this.#graphView.activate(active, activityWords(token, active?.size ?? 0));
  }

  // ------------------------------------------------------------------------------ how it is looked at

  #change(change: Partial<Kept>): void {
    this.#keep(change);
    if (change.follows !== undefined) {
      this.#quietly(this.#host.ask("panel/follow", { on: change.follows }));
      this.#activate();
    }
    if (change.isPinned === false || change.isPaused === false) {
      if (this.#session.state !== null) this.#sessionChanged(this.#session.state);
    }
    this.#render();
  }

  #keep(change: Partial<Kept>): void {
    this.#kept = { ...this.#kept, ...change };
    this.#host.keep(this.#kept);
  }

  #look(scene: Scene): Look {
    const index = indexOf(scene.graph);
    const dropped = this.#off.nodes.flatMap((node) => index.get(nameOf(node)) ?? []);
    return {
      edges: shownEdges(scene, this.#kept.edgesShown ?? this.#edgesAtFirst),
      showsCarried: this.#kept.showsCarried,
      dropped: new Set(dropped),
    };
  }

  #render(): void {
    const { info, hasEdges } = this.#graph ?? {};
    const isShown = info !== undefined && this.#scene !== null;
    this.#body.hidden = this.#toolbar.element.hidden = !isShown;
    const run = (command: string) =>
      this.#quietly(this.#host.ask("panel/run", { command: command as "circuits.nextStep" }));
    const isLost = this.#host.isLive && this.#status !== null && this.#status.state !== "connected";
    this.#absence.replaceChildren(...(isShown ? [] : [absence(this.#status, this.#failure, run)]));
    if (!isShown || this.#scene === null) {
      this.#top.replaceChildren();
      return;
    }
    const look = this.#look(this.#scene);
    this.#graphView.look(look);
    this.#toolbar.show(this.#kept, this.#scene, look.edges.size);
    const measure = hasEdges || !this.#host.isLive ? null : () => this.#quietly(this.#measure());
    this.#top.replaceChildren(
      heading(info, look.dropped.size, this.#off.effect, {
        reset: () => this.#drop([]),
        save: () => this.#quietly(this.#save()),
        measure,
      }),
      ...(isLost ? [absence(this.#status, null, run)] : []),
    );
    this.#root.classList.toggle("stale", isLost);
    this.#showTab();
  }

  async #measure(): Promise<void> {
    if (this.#graph === null) return;
    this.#adopt(await this.#host.ask("circuit/circuits/measure", { circuit: this.#graph.info.id }));
  }

  #showTab(): void {
    const graph = this.#graph;
    if (graph === null || this.#scene === null) return;
    if (this.#kept.tab === "budgets") this.#masks.load(graph.info, () => this.#showTab());
    const { uri } = this.#focus ?? { uri: null };
    this.#inspector.show(this.#kept.tab, {
      scene: this.#scene,
      graph,
      isLive: this.#host.isLive,
      selected: this.#selected,
      isDropped: (name) => this.#off.has(name),
      ...this.#knownSamples(graph.info.id, uri),
      masks: this.#masks.get(graph.info),
      others: this.#infos.filter(
        (x) => x.model === graph.info.model && x.id !== graph.info.id && x.broken === null,
      ),
      compare: this.#kept.compare,
      comparison: this.#comparing.found,
      actions: {
        select: (i) => this.#select(i, true),
        toggle: (i) => this.#toggle(i),
        copy: (text, what) => this.#quietly(this.#host.ask("panel/copy", { text, what })),
        heat: uri === null ? null : () => this.#heat(),
        open: (circuit) => this.#quietly(this.#open(circuit, true)),
        selectNamed: (name) => this.#selectNamed(name),
        verify: () => this.#quietly(this.#host.ask("circuit/jobs/verify", { circuit: graph.info.id })),
        compare: (circuit) => this.#quietly(this.#compare(circuit)),
      },
    });
  }

  #knownSamples(circuit: string, uri: string | null): Pick<Inspected, "samples" | "samplesProblem"> {
    const node = this.#node();
    if (node === null) return { samples: null, samplesProblem: null };
    const samples = this.#samples.get(node, circuit, uri);
    return { samples, samplesProblem: this.#samples.problem(node, circuit, uri) };
  }

  #heat(): void {
    const [node, circuit] = [this.#node(), this.#graph?.info.id ?? null];
    if (node !== null) this.#quietly(this.#host.ask("panel/nodeHeat", { node, circuit }));
  }

  async #export(kind: ExportKind): Promise<void> {
    if (this.#scene === null || this.#graph === null) return;
    await exportAs(kind, this.#host, {
      graph: this.#graph,
      scene: this.#scene,
      look: this.#look(this.#scene),
      palette: this.#palette,
      dropped: this.#off.nodes,
      selected: this.#node(),
      samples: this.#samples.of(this.#graph.info.id),
    });
  }

  /** A failed question that nobody waits for is said where the user looks. */
  #quietly(promise: Promise<unknown>): void {
    promise.catch((error: unknown) => {
      if (error instanceof DOMException && error.name === "AbortError") return;
      this.#inspector.complain(sentenceOf(error));
    });
  }
}
