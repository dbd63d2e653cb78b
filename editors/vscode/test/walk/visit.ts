// Opens a page and stays until a file is there: for tests that run inside the page's workbench.

import { existsSync } from "node:fs";
import { launch, until } from "./workbench";

async function main([chromium, url, file]: readonly string[]): Promise<void> {
  if (chromium === undefined || url === undefined || file === undefined)
    throw new Error("usage: visit CHROMIUM URL FILE");
  const browser = await launch(chromium);
  try {
    const page = await browser.newPage();
    page.on("console", (message) => {
      if (message.type() === "error") console.log(message.text());
    });
    await page.goto(url);
    for (let i = 0; !existsSync(file) && i < 5; i++) {
      await until("the results", async () => existsSync(file), Boolean).catch((error: unknown) => {
        if (i === 4) throw error;
      });
    }
  } finally {
    await browser.close();
  }
}

main(process.argv.slice(2)).then(
  () => process.exit(0),
  (error: unknown) => {
    console.log(error);
    process.exit(1);
  },
);
