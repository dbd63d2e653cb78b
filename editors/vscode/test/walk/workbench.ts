// VS Code in a browser, as a user moves in it: commands, files, the panel, themes, screenshots.

import { readFileSync, writeFileSync } from "node:fs";
import * as path from "node:path";
import { type Browser, chromium, type FrameLocator, type Locator, type Page } from "playwright-core";

/** What the walk is told by whoever starts the servers. */
export interface Surroundings {
  /** Address of the workbench, its folder included. */
  readonly url: string;
  readonly chromium: string;
  readonly folder: string;
  /** Settings files that the workbench reads. */
  readonly settings: readonly string[];
  readonly shots: string;
  /** The `circuit` command, and the daemon's process. */
  readonly circuit: string;
  readonly daemonPid: number;
  /** The daemon over tcp, its public key, and the secret key of somebody whom it does not know. */
  readonly tcp: { readonly endpoint: string; readonly serverKey: string; readonly strangerKey: string };
}

/** Does something and waits until it has come about. */
export type Step = (bench: Workbench, around: Surroundings) => Promise<void>;
export type Steps = { readonly [name: string]: Step };

export const LIMIT_MS = 90_000;
const FLAGS = [
  "--no-sandbox",
  "--disable-gpu",
  "--disable-quic",
  "--no-first-run",
  "--disable-background-networking",
  "--disable-component-update",
  "--disable-sync",
];

export function launch(executablePath: string): Promise<Browser> {
  return chromium.launch({ executablePath, args: FLAGS });
}

export class Workbench {
  readonly page: Page;
  /** What one step saw and a later one compares with. */
  readonly seen = new Map<string, string>();
  readonly #around: Surroundings;

  constructor(page: Page, around: Surroundings) {
    this.page = page;
    this.#around = around;
    page.setDefaultTimeout(LIMIT_MS);
  }

  async open(): Promise<void> {
    await this.page.goto(this.#around.url);
    await this.page.locator(".monaco-workbench .part.editor").waitFor();
  }

  /** A file of the workspace, from the explorer. */
  async openFile(name: string): Promise<void> {
    await this.page.getByRole("treeitem", { name }).first().dblclick();
    await this.page.locator(".view-line").first().waitFor();
  }

  /** A command of the palette, which must be offered there. */
  async run(title: string): Promise<void> {
    await this.page.keyboard.press("F1");
    await this.input.fill(`>${title}`);
    await this.page.locator(`.quick-input-list [aria-label^="${title}"]`).first().click();
  }

  /**
   * Open the menu of code actions at the cursor, and wait for this one to be first in it.
   * VS Code looks for actions by itself a moment after a click, and drops what was asked for
   * meanwhile: it then says that there is none, and has to be asked again.
   */
  async actions(first: string): Promise<void> {
    const found = this.page.locator(".action-widget .monaco-list-row.focused", { hasText: first });
    const none = this.page.locator(".monaco-editor-overlaymessage");
    for (;;) {
      await this.page.keyboard.press("Control+.");
      await found.or(none).first().waitFor();
      if (await found.isVisible()) return;
      await this.page.keyboard.press("Escape");
      await none.waitFor({ state: "detached" });
    }
  }

  /** An entry of an open list. */
  entry(text: string): Locator {
    return this.page.locator(".quick-input-list .monaco-list-row", { hasText: text }).first();
  }

  /** The line that an open box asks for. */
  get input(): Locator {
    return this.page.locator(".quick-input-widget input").first();
  }

  /** Wait until the box with this title asks. */
  async asked(title: string): Promise<void> {
    await this.page.locator(".quick-input-title", { hasText: title }).waitFor();
  }

  async enter(text: string): Promise<void> {
    await this.input.fill(text);
    await this.page.keyboard.press("Enter");
  }

  /** A message of the workbench. */
  toast(text: RegExp): Locator {
    return this.page.locator(".notification-toast", { hasText: text }).first();
  }

  get status(): Locator {
    return this.page.locator('[id$="circuits.status"]');
  }

  get legend(): Locator {
    return this.page.locator('[id$="circuits.legend"]');
  }

  /** Tokens of the editor that are decorated. */
  get decorated(): Locator {
    return this.page.locator('.view-overlays [class*="ced-"]');
  }

  get panel(): FrameLocator {
    return this.page.frameLocator("iframe.webview.ready").frameLocator("#active-frame");
  }

  /** A word of the text, to click or to hover over. */
  word(line: string, word: string): Locator {
    return this.page
      .locator(".view-line", { hasText: line })
      .first()
      .locator("span", { hasText: word })
      .last();
  }

  /** A button of the panel, by its name in the page. */
  button(name: string): Locator {
    return this.panel.locator(`[data-name="${name}"]`);
  }

  async tab(name: string): Promise<void> {
    await this.panel.locator(`[role="tab"][data-name="${name}"]`).click();
  }

  async choose(circuit: string): Promise<void> {
    const select = this.button("circuit");
    const option = select.locator("option", { hasText: circuit }).first();
    await select.selectOption((await option.getAttribute("value")) ?? "");
  }

  /** Wait until the panel has this node selected. */
  async selects(name: string): Promise<void> {
    await until(
      "the panel's node",
      () => this.selected(),
      (now) => now === name,
    );
  }

  /** The node that is selected in the panel, by name. */
  async selected(): Promise<string | undefined> {
    return (await this.panel.locator(".marker").getAttribute("data-node")) ?? undefined;
  }

  /** Another colour theme, through the settings file; waits until the workbench has it. */
  async theme(name: string, className: string): Promise<void> {
    for (const file of this.#around.settings) {
      const settings = JSON.parse(readFileSync(file, "utf8"));
      writeFileSync(file, JSON.stringify({ ...settings, "workbench.colorTheme": name }));
    }
    await this.page.locator(`.monaco-workbench.${className}`).waitFor();
    await this.panel
      .locator(
        `body.${className === "vs" ? "vscode-light" : className === "hc-black" ? "vscode-high-contrast" : "vscode-dark"}`,
      )
      .waitFor();
  }

  async shot(name: string): Promise<void> {
    await this.page.screenshot({ path: path.join(this.#around.shots, `${name}.png`) });
  }
}

/** Ask again until `accept` takes the answer: for what tells nobody when it changes. */
export async function until<T>(
  what: string,
  ask: () => Promise<T>,
  accept: (value: T) => boolean,
): Promise<T> {
  const end = Date.now() + LIMIT_MS;
  for (;;) {
    const value = await ask();
    if (accept(value)) return value;
    if (Date.now() > end)
      throw new Error(`${what}: still ${JSON.stringify(value)} after ${LIMIT_MS / 1000} s`);
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}
