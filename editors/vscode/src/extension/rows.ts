// The rows of the views as values: what each says, and by which stable id it is known.

import type { CacheInfo, CircuitInfo, JobInfo, ModelInfo, TaskInfo } from "../protocol.generated";
import { bytes, count, percent } from "../shared/scale";

export interface Row {
  /** Stays the same while the thing does, so that selection and expansion stay. */
  readonly id: string;
  readonly label: string;
  readonly description: string;
  readonly tooltip: string;
  /** A codicon, and the theme colour it has. */
  readonly icon: string;
  readonly color?: string;
  /** What menus ask for: `viewItem`. */
  readonly context: string;
  readonly children?: readonly Row[];
  readonly isExpanded?: boolean;
  /** What a click does; the row's own arguments follow. */
  readonly command?: { readonly title: string; readonly command: string };
  /** What commands are told: a model, a task, a circuit, a job. */
  readonly subject: string;
}

const MODEL_ICONS = {
  broken: "warning",
  unloaded: "circle-large-outline",
  loaded: "circle-large-filled",
  pinned: "circle-large-filled",
} as const;

/** What can be done with a model depends on this. */
function stateOf({ broken, resident }: ModelInfo): keyof typeof MODEL_ICONS {
  if (broken !== null) return "broken";
  if (resident === null) return "unloaded";
  return resident.pinned ? "pinned" : "loaded";
}

export function modelRows(models: readonly ModelInfo[]): Row[] {
  return models.map((model) => {
    const { resident } = model;
    const state = stateOf(model);
    const size =
      resident === null
        ? `${bytes(model.nbytesOnDisk)} on disk`
        : `${bytes(resident.nbytes)} on ${resident.device}`;
    const marks = [size, model.isDefault ? "default" : "", state === "pinned" ? "pinned" : ""];
    const facts = [
      `**${model.name}**`,
      `${count(model.nLayer, "layer")} of width ${model.dModel}, ${count(model.nNodes, "node")}`,
      resident === null
        ? "Not in memory."
        : `In memory as ${resident.dtype} on ${resident.device}. ${resident.execution}`,
      model.broken ?? "",
    ];
    return {
      id: `model:${model.name}`,
      label: model.name,
      description: state === "broken" ? "broken" : marks.filter(Boolean).join(" · "),
      tooltip: facts.filter(Boolean).join("\n\n"),
      icon: MODEL_ICONS[state],
      ...(resident === null ? {} : { color: "charts.green" }),
      context: state,
      subject: model.name,
    };
  });
}

export function taskRows(tasks: readonly TaskInfo[]): Row[] {
  return tasks.map((task) => ({
    id: `task:${task.name}`,
    label: task.name,
    description: task.nCircuits === 0 ? "" : count(task.nCircuits, "circuit"),
    tooltip: `**${task.name}**\n\n${task.description}\n\n${task.source}`,
    icon: task.source === "built-in" ? "beaker" : "file",
    context: "task",
    subject: task.name,
    command: { title: "Show examples", command: "circuits.showTask" },
  }));
}

const VERDICTS: { readonly [verdict: string]: readonly [icon: string, color: string] } = {
  supported: ["pass-filled", "testing.iconPassed"],
  "not supported": ["error", "testing.iconFailed"],
  depends: ["question", "charts.yellow"],
};

/** Circuits by model and task, smallest first. The model's level is left out where there is one. */
export function circuitRows(circuits: readonly CircuitInfo[]): Row[] {
  const models = groups(circuits, (x) => x.model);
  const byTask = (found: readonly CircuitInfo[], prefix: string) =>
    groups(found, (x) => x.task).map(
      ([task, same]): Row => ({
        id: `${prefix}/${task}`,
        label: task,
        description: count(same.length, "circuit"),
        tooltip: `Circuits of ${task}`,
        icon: "beaker",
        context: "circuits",
        subject: task,
        children: [...same].sort((a, b) => a.k - b.k).map(circuitRow),
      }),
    );
  const [only] = models;
  if (models.length === 1 && only !== undefined) return byTask(only[1], `circuits:${only[0]}`);
  return models.map(([model, same]) => ({
    id: `circuits:${model}`,
    label: model,
    description: count(same.length, "circuit"),
    tooltip: `Circuits of ${model}`,
    icon: "circuit-board",
    context: "model",
    subject: model,
    children: byTask(same, `circuits:${model}`),
    isExpanded: true,
  }));
}

function circuitRow(x: CircuitInfo): Row {
  const [icon, color] = VERDICTS[x.verdict ?? ""] ?? ["circle-outline", undefined];
  const facts = [
    `**${x.task}**, ${count(x.k, "node")}, ${count(x.nEdges, "edge")}`,
    `Loss ${x.loss.toFixed(3)}${x.heldOutLoss === null ? "" : `, held out ${x.heldOutLoss.toFixed(3)}`}, model ${x.modelLoss.toFixed(3)}; accuracy ${percent(x.accuracy)}.`,
    `Verdict: ${x.verdict ?? "nobody has verified it"}.`,
    `${x.origin}, ${x.ablation}-ablated, seed ${x.seed}; \`${x.sweep}/${x.label}\`, \`${x.id}\``,
    x.broken ?? "",
  ];
  return {
    id: `circuit:${x.model}/${x.task}/${x.sweep}/${x.label}`,
    label: `k ${x.k}`,
    description:
      x.broken === null
        ? `loss ${x.loss.toFixed(3)} · ${x.sweep}${x.verdict === null ? "" : ` · ${x.verdict}`}`
        : "broken",
    tooltip: facts.filter(Boolean).join("\n\n"),
    icon: x.broken === null ? icon : "warning",
    ...(color === undefined ? {} : { color }),
    context: x.broken !== null ? "broken" : x.readOnly ? "circuit-shipped" : "circuit-own",
    subject: x.id,
    ...(x.broken === null ? { command: { title: "Open", command: "circuits.openCircuit" } } : {}),
  };
}

const STATES: { readonly [state in JobInfo["state"]]: readonly [icon: string, color: string | undefined] } = {
  queued: ["clock", undefined],
  running: ["sync~spin", "charts.blue"],
  done: ["check", "testing.iconPassed"],
  failed: ["error", "testing.iconFailed"],
  cancelled: ["circle-slash", undefined],
};

export function jobRows(jobs: readonly JobInfo[]): Row[] {
  return jobs.map((job) => {
    const [icon, color] = STATES[job.state];
    const isOpen = job.state === "queued" || job.state === "running";
    const share = job.total === null || job.total === 0 ? "" : percent(job.done / job.total);
    const parts = [
      job.state,
      isOpen ? share : "",
      job.stage ?? "",
      job.loss === null ? "" : `loss ${job.loss.toFixed(3)}`,
      job.k === null ? "" : `k ${job.k}`,
      job.verdict ?? "",
    ];
    return {
      id: `job:${job.job}`,
      label: job.description || job.kind,
      description: parts.filter(Boolean).join(" · "),
      tooltip: [
        `**${job.kind}** \`${job.job}\``,
        job.description,
        job.problem?.message ?? "",
        job.problem?.hint ?? "",
      ]
        .filter(Boolean)
        .join("\n\n"),
      icon,
      ...(color === undefined ? {} : { color }),
      context: isOpen ? "job-open" : job.circuits.length > 0 ? "job-found" : "job-ended",
      subject: job.job,
      children: job.circuits.map((circuit) => ({
        id: `job:${job.job}/${circuit}`,
        label: circuit,
        description: "",
        tooltip: "Found by this job",
        icon: "type-hierarchy",
        context: "job-circuit",
        subject: circuit,
        command: { title: "Open", command: "circuits.openCircuit" },
      })),
    };
  });
}

export function cacheRows(caches: readonly CacheInfo[]): Row[] {
  return caches.map((cache) => {
    const asked = cache.hits + cache.misses;
    return {
      id: `cache:${cache.kind}`,
      label: cache.kind,
      description: `${count(cache.entries, "entry", "entries")} · ${bytes(cache.nbytes)}${cache.budgetNbytes > 0 ? ` of ${bytes(cache.budgetNbytes)}` : ""}`,
      tooltip: `${bytes(cache.diskNbytes)} on disk\n\n${cache.hits} hits of ${asked}, ${cache.evictions} evicted`,
      icon: "database",
      context: cache.kind === "models" ? "cache-models" : "cache",
      subject: cache.kind,
    };
  });
}

function groups<T>(items: readonly T[], key: (item: T) => string): [string, T[]][] {
  const found = new Map<string, T[]>();
  for (const item of items) found.set(key(item), [...(found.get(key(item)) ?? []), item]);
  return [...found].sort(([a], [b]) => a.localeCompare(b));
}
