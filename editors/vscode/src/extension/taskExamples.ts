// A task's pairs as a document that is only shown: prompts, and what must come next.

import * as vscode from "vscode";
import type { TaskDetail } from "../protocol.generated";
import type { Server } from "./server";

const N_PAIRS = 6;

/** Show some pairs of `task` beside the text. */
export async function showTask(server: Server, task: string): Promise<void> {
  const detail = await server.ask("circuit/tasks/show", { task, n: N_PAIRS });
  const document = await vscode.workspace.openTextDocument({
    language: "markdown",
    content: taskText(detail),
  });
  await vscode.commands.executeCommand("markdown.showPreview", document.uri);
}

/** The pairs as Markdown. */
export function taskText({ task, pairs }: TaskDetail): string {
  const parts = pairs.map(({ prompts, targets }, i) =>
    [
      `## Pair ${i + 1}`,
      ...prompts.flatMap((prompt, side) => [fenced(prompt), `then ${coded(targets[side] ?? "")}`]),
    ].join("\n\n"),
  );
  return [`# ${task.name}`, task.description, `*${task.source}*`, ...parts, ""].join("\n\n");
}

function fenced(text: string): string {
  const fence = "`".repeat(Math.max(3, longestRun(text) + 1));
  return `${fence}python\n${text}\n${fence}`;
}

function coded(text: string): string {
  const tick = "`".repeat(longestRun(text) + 1);
  return `${tick} ${JSON.stringify(text).slice(1, -1)} ${tick}`;
}

function longestRun(text: string): number {
  return Math.max(0, ...(text.match(/`+/g) ?? []).map((run) => run.length));
}
