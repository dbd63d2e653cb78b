// The five views: each asks when it is seen, and again when the server says that it has changed.

import * as vscode from "vscode";
import type { CatalogueChanged, JobInfo } from "../protocol.generated";
import { sentenceOf } from "./refusal";
import { cacheRows, circuitRows, jobRows, modelRows, type Row, taskRows } from "./rows";
import type { Server } from "./server";

type Catalogue = CatalogueChanged["what"][number];

/** How jobs that are watched make themselves felt in the list, at most this often. */
const JOBS_AFTER_MS = 250;

class View implements vscode.TreeDataProvider<Row>, vscode.Disposable {
  readonly #changed = new vscode.EventEmitter<Row | undefined>();
  readonly #load: () => Promise<readonly Row[]>;
  readonly #view: vscode.TreeView<Row>;
  readonly #server: Server;
  #isStale = false;
  readonly onDidChangeTreeData = this.#changed.event;

  constructor(id: string, server: Server, load: () => Promise<readonly Row[]>) {
    this.#server = server;
    this.#load = load;
    this.#view = vscode.window.createTreeView(id, {
      treeDataProvider: this,
      showCollapseAll: id === "circuits.circuits",
    });
    this.#view.onDidChangeVisibility(({ visible }) => {
      if (visible && this.#isStale) this.refresh();
    });
  }

  /** Ask again; later, where nobody looks. */
  refresh(): void {
    this.#isStale = !this.#view.visible;
    if (this.#view.visible) this.#changed.fire(undefined);
  }

  badge(value: number, tooltip: string): void {
    this.#view.badge = value === 0 ? undefined : { value, tooltip };
  }

  async getChildren(row?: Row): Promise<Row[]> {
    if (row !== undefined) return [...(row.children ?? [])];
    // Without a daemon the view is empty, and its welcome says what to do.
    if (!this.#server.isConnected) return [];
    try {
      const rows = await this.#load();
      this.#view.message = rows.length === 0 ? "None." : "";
      return [...rows];
    } catch (error) {
      this.#view.message = sentenceOf(error);
      return [];
    }
  }

  getTreeItem(row: Row): vscode.TreeItem {
    const { Collapsed, Expanded, None } = vscode.TreeItemCollapsibleState;
    const hasChildren = (row.children?.length ?? 0) > 0;
    const item = new vscode.TreeItem(row.label, !hasChildren ? None : row.isExpanded ? Expanded : Collapsed);
    item.id = row.id;
    item.description = row.description;
    item.tooltip = new vscode.MarkdownString(row.tooltip);
    item.iconPath = new vscode.ThemeIcon(
      row.icon,
      row.color === undefined ? undefined : new vscode.ThemeColor(row.color),
    );
    item.contextValue = row.context;
    item.accessibilityInformation = { label: `${row.label}, ${row.description}` };
    if (row.command !== undefined) item.command = { ...row.command, arguments: [row] };
    return item;
  }

  dispose(): void {
    this.#view.dispose();
    this.#changed.dispose();
  }
}

export class Views implements vscode.Disposable {
  readonly #views: { readonly [what in Exclude<Catalogue, "sessions">]: View };
  readonly #disposables: vscode.Disposable[];
  readonly #open = new Set<string>();
  #jobs: NodeJS.Timeout | undefined;
  #wasConnected = false;

  constructor(server: Server) {
    this.#views = {
      circuits: new View("circuits.circuits", server, async () =>
        circuitRows((await server.ask("circuit/circuits/list", {})).circuits),
      ),
      models: new View("circuits.models", server, async () =>
        modelRows((await server.ask("circuit/models/list", {})).models),
      ),
      tasks: new View("circuits.tasks", server, async () =>
        taskRows((await server.ask("circuit/tasks/list", {})).tasks),
      ),
      jobs: new View("circuits.jobs", server, async () =>
        jobRows((await server.ask("circuit/jobs/list", {})).jobs),
      ),
      cache: new View("circuits.cache", server, async () =>
        cacheRows((await server.ask("circuit/cache/list", {})).caches),
      ),
    };
    this.#disposables = [
      ...Object.values(this.#views),
      server.on("circuit/catalogueChanged", ({ what }) => this.refresh(what)),
      server.on("circuit/jobChanged", (job) => this.#jobChanged(job)),
      server.onChanged(() => {
        if (server.isConnected !== this.#wasConnected) this.refresh();
        this.#wasConnected = server.isConnected;
      }),
    ];
  }

  /** Ask again for some views, or for all. */
  refresh(what: readonly Catalogue[] = ["circuits", "models", "tasks", "jobs", "cache"]): void {
    for (const name of what) if (name !== "sessions") this.#views[name].refresh();
  }

  #jobChanged(job: JobInfo): void {
    const isOpen = job.state === "queued" || job.state === "running";
    if (isOpen) this.#open.add(job.job);
    else this.#open.delete(job.job);
    this.#views.jobs.badge(this.#open.size, "unfinished jobs");
    if (this.#jobs !== undefined) return;
    this.#jobs = setTimeout(() => {
      this.#jobs = undefined;
      this.refresh(["jobs"]);
    }, JOBS_AFTER_MS);
  }

  dispose(): void {
    clearTimeout(this.#jobs);
    for (const disposable of this.#disposables) disposable.dispose();
  }
}
