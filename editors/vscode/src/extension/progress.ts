// Work that a user waits for: silent while it is quick, with progress and cancel beyond that.

import * as vscode from "vscode";

/** Under this, a notification would only flicker. */
const SHOW_AFTER_MS = 500;

/** Do `work`; null where the user cancelled it. Its errors are the caller's. */
export async function attended<T>(
  title: string,
  work: (token: vscode.CancellationToken) => Promise<T>,
): Promise<T | null> {
  const source = new vscode.CancellationTokenSource();
  const done = work(source.token);
  const settled = done.then(
    () => undefined,
    () => undefined,
  );
  const timer = setTimeout(() => {
    void vscode.window.withProgress(
      { location: vscode.ProgressLocation.Notification, title, cancellable: true },
      async (_, token) => {
        token.onCancellationRequested(() => source.cancel());
        await settled;
      },
    );
  }, SHOW_AFTER_MS);
  try {
    return await done;
  } catch (error) {
    if (source.token.isCancellationRequested) return null;
    throw error;
  } finally {
    clearTimeout(timer);
    source.dispose();
  }
}
