// A real terminal UI in tmux, beside the workbench: its screen as text, and keys.

import { execFileSync } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import * as path from "node:path";

export class Terminal {
  readonly #home = mkdtempSync(path.join(tmpdir(), "tmux-"));

  constructor(command: readonly string[]) {
    const words = command.map((word) => `'${word.replaceAll("'", "'\\''")}'`).join(" ");
    this.#tmux("-f", "/dev/null", "new-session", "-d", "-x", "120", "-y", "40", words);
  }

  #tmux(...words: readonly string[]): string {
    const environment = { ...process.env, TERM: "xterm-256color", COLORTERM: "truecolor" };
    return execFileSync("tmux", ["-S", path.join(this.#home, "s"), ...words], {
      encoding: "utf8",
      env: environment,
    });
  }

  get screen(): string {
    return this.#tmux("capture-pane", "-p");
  }

  /** The node that it looks at: its name stands above what it costs. */
  get selected(): string | undefined {
    return /(\S+\[\d+\])[^\n]*\n[^\n]*nats without it/.exec(this.screen)?.[1];
  }

  press(key: string): void {
    this.#tmux("send-keys", key);
  }

  close(): void {
    this.#tmux("kill-server");
    rmSync(this.#home, { recursive: true, force: true });
  }
}
