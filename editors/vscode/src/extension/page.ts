// The panel's HTML: in a webview, and as a page that opens anywhere. Same bundle, same styles.

import { createHash, randomBytes } from "node:crypto";

/** The panel's assets, as text. */
export interface Assets {
  readonly script: string;
  readonly style: string;
  /** What VS Code's variables are where there is no VS Code. */
  readonly pageStyle: string;
}

/** For a webview: nothing may run or be loaded but the two files named, by a nonce. */
export function webviewHtml(scriptUri: string, styleUri: string, cspSource: string): string {
  const nonce = randomBytes(18).toString("base64");
  const policy = `default-src 'none'; style-src ${cspSource}; script-src 'nonce-${nonce}'; base-uri 'none'; form-action 'none'`;
  return [
    "<!doctype html>",
    '<html lang="en">',
    "<head>",
    '<meta charset="utf-8">',
    `<meta http-equiv="Content-Security-Policy" content="${policy}">`,
    '<meta name="viewport" content="width=device-width, initial-scale=1">',
    `<link rel="stylesheet" href="${styleUri}">`,
    "<title>Circuit</title>",
    "</head>",
    "<body>",
    '<div id="panel"></div>',
    `<script nonce="${nonce}" src="${scriptUri}"></script>`,
    "</body>",
    "</html>",
    "",
  ].join("\n");
}

/** A file that opens without VS Code, a daemon or a network: only its own script runs, by hash. */
export function savedPage(title: string, snapshotJson: string, { script, style, pageStyle }: Assets): string {
  const styles = `${pageStyle}\n${style}`;
  // Within a script element only these would end it; as data they may be escaped, as code they
  // are split so that the strings keep their values.
  const code = script.replace(/<\/(script)/gi, "<\\/$1").replaceAll("<!--", "<\\!--");
  const data = snapshotJson
    .replaceAll("<", "\\u003c")
    .replaceAll("\u2028", "\\u2028")
    .replaceAll("\u2029", "\\u2029");
  const policy = `default-src 'none'; style-src ${hashOf(styles)}; script-src ${hashOf(code)}; base-uri 'none'; form-action 'none'`;
  return [
    "<!doctype html>",
    '<html lang="en">',
    "<head>",
    '<meta charset="utf-8">',
    `<meta http-equiv="Content-Security-Policy" content="${policy}">`,
    '<meta name="viewport" content="width=device-width, initial-scale=1">',
    `<title>${escaped(title)}</title>`,
    `<style>${styles}</style>`,
    "</head>",
    "<body>",
    '<div id="panel"></div>',
    `<script type="application/json" id="snapshot">${data}</script>`,
    `<script>${code}</script>`,
    "</body>",
    "</html>",
    "",
  ].join("\n");
}

function hashOf(text: string): string {
  return `'sha256-${createHash("sha256").update(text).digest("base64")}'`;
}

function escaped(text: string): string {
  return text.replaceAll("&", "&amp;").replaceAll("<", "&lt;");
}
