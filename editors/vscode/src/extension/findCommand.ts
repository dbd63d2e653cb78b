// Which `circuit` to run: the setting's, the workspace's own environment's, else the one on PATH.

import * as path from "node:path";

/** How a command was found, or why not. */
export type Found =
  | { readonly path: string; readonly by: "setting" | "workspace" | "PATH" }
  | { readonly path: null; readonly sentence: string; readonly hint: string };

export interface Surroundings {
  readonly setting: string;
  readonly folders: readonly string[];
  readonly searchPath: string;
  readonly home: string;
  /** Whether that is a file that may be run. */
  isProgram(file: string): boolean;
}

/** Environments that people keep in a workspace. */
const ENVIRONMENTS = [".venv", "venv", ".env", "env"];

/** Look for it, in this order; nothing is run. */
export function findCommand({ setting, folders, searchPath, home, isProgram }: Surroundings): Found {
  if (setting !== "") {
    const candidates = resolved(setting, folders, home);
    const found = candidates.find(isProgram);
    if (found !== undefined) return { path: found, by: "setting" };
    return {
      path: null,
      sentence: `circuit.command is ${setting}, and there is no such program.`,
      hint: "Correct the setting, or empty it to have the workspace's .venv and PATH searched.",
    };
  }
  const inWorkspace = folders.flatMap((folder) =>
    ENVIRONMENTS.map((environment) => path.join(folder, environment, "bin", "circuit")),
  );
  const own = inWorkspace.find(isProgram);
  if (own !== undefined) return { path: own, by: "workspace" };
  const directories = searchPath.split(path.delimiter).filter((directory) => path.isAbsolute(directory));
  const onPath = directories.map((directory) => path.join(directory, "circuit")).find(isProgram);
  if (onPath !== undefined) return { path: onPath, by: "PATH" };
  return {
    path: null,
    sentence: "There is no `circuit` command in the workspace's .venv or on PATH.",
    hint: "Install it with pip install 'circuitd[lsp]', or name it in the setting circuit.command.",
  };
}

function resolved(setting: string, folders: readonly string[], home: string): string[] {
  const expanded = setting.replace(/^~(?=\/|$)/, home);
  if (path.isAbsolute(expanded)) return [expanded];
  return folders.map((folder) => path.join(folder, expanded.replace(/^\$\{workspaceFolder\}\//, "")));
}
