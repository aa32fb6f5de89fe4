import { createServer, type Server } from "node:http";
import type { Page } from "puppeteer";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { folderFiles } from "../../src/models/folder.ts";
import { withScoreHead } from "../../src/run/reward.ts";
import { tinyFolder } from "../run/tiny.ts";
import { withPage } from "../support/page.ts";

/** Beyond this a page hangs, for people and for browsers; software adapters share the cores with the page. */
const HANGS_MS = 2000;

/** Tiny random models at an address, for prompts of the synthetic world. */
async function serveModels(): Promise<{ server: Server; address: string }> {
  const model = tinyFolder({ maxPositions: 160, initializerRange: 0.3 });
  const folders = { tiny: model, reward: withScoreHead(model, 2) };
  const files = new Map(
    Object.entries(folders).flatMap(([at, folder]) =>
      [...folderFiles(folder)].map(([name, bytes]) => [`/${at}/${name}`, bytes])
    ),
  );
  const server = createServer((request, response) => {
    const bytes = files.get(request.url ?? "");
    response.writeHead(bytes === undefined ? 404 : 200, { "access-control-allow-origin": "*" });
    response.end(bytes);
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const place = server.address();
  if (place === null || typeof place === "string") throw new Error("the model server has no port");
  return { server, address: `http://127.0.0.1:${place.port}` };
}

const textOf = (page: Page, selector: string): Promise<string> =>
  page.$eval(selector, (element) => element.textContent ?? "");

/** Waits until the state line matches, and gives it. @throws Error with the page's message when the run fails instead */
async function state(page: Page, pattern: RegExp): Promise<string> {
  const found = await page.waitForFunction(
    (source) => {
      const text = document.querySelector("#state")?.textContent ?? "";
      return (text === "Ended early" || new RegExp(source).test(text)) && text;
    },
    { timeout: 50_000, polling: 50 },
    pattern.source,
  );
  const text = String(await found.jsonValue());
  if (pattern.test(text)) return text;
  throw new Error(`${text}: ${await textOf(page, "#error")}`);
}

const stepOf = (text: string): number => Number(/(\d+) of/.exec(text)?.[1] ?? NaN);

/** Pixels of the first chart that are neither empty nor grey: the curve. */
const paintedPixels = (page: Page): Promise<number> =>
  page.$eval("#charts canvas", (canvas) => {
    const { width, height } = canvas;
    const { data } = canvas.getContext("2d")?.getImageData(0, 0, width, height) ?? { data: [] };
    let painted = 0;
    for (let i = 0; i < data.length; i += 4) {
      if (
        data[i + 3] > 200 &&
        Math.max(data[i], data[i + 1], data[i + 2]) - Math.min(data[i], data[i + 1], data[i + 2]) > 40
      ) painted++;
    }
    return painted;
  });

const errorShown = (page: Page): Promise<boolean> => page.$eval("#error", (box) => !box.hasAttribute("hidden"));

/** Starts to measure the gaps between frames; {@link longestGap} reads the longest, in milliseconds. */
const watchFrames = (page: Page): Promise<void> =>
  page.evaluate(() => {
    const gaps = { longest: 0, frames: 0 };
    Object.assign(globalThis, { frameGaps: gaps });
    let last = performance.now();
    const frame = (now: number): void => {
      gaps.longest = Math.max(gaps.longest, now - last);
      gaps.frames++;
      last = now;
      requestAnimationFrame(frame);
    };
    requestAnimationFrame((now) => {
      last = now;
      requestAnimationFrame(frame);
    });
  });

const longestGap = (page: Page): Promise<{ longest: number; frames: number }> =>
  page.evaluate(() => (globalThis as unknown as { frameGaps: { longest: number; frames: number } }).frameGaps);

describe("the demo", () => {
  let server: Server;
  let models: string;
  beforeAll(async () => {
    const served = await serveModels();
    server = served.server;
    models = `model=${encodeURIComponent(`${served.address}/tiny`)}&rewardModel=${
      encodeURIComponent(`${served.address}/reward`)
    }`;
  });
  afterAll(() => new Promise<void>((resolve) => server.close(() => resolve())));

  it("runs ReMax: starts, draws, pauses, steps, goes on, stops, and resumes after a reload", async () => {
    await withPage(`#algorithm=remax&maxSteps=400&learningRate=0.01&klCoef=0.1&seed=7&${models}`, async (page) => {
      expect(await page.$eval("#setting-klCoef", (input) => (input as HTMLInputElement).value)).toBe("0.1");
      await watchFrames(page);
      await page.click("#start");
      expect(stepOf(await state(page, /^Running: ([3-9]|\d\d)/))).toBeGreaterThan(2);
      expect(await textOf(page, "#facts")).toMatch(
        /^Model tiny, [\d,]+ parameters · on .+ · peak memory by plan [\d.]+ [KM]iB$/,
      );
      expect(await textOf(page, "#rate")).toMatch(/\d+ tokens\/s · [\d.]+ s a step · about \d+ (s|min) left/);
      expect(await page.$$eval("#samples-body tr", (rows) => rows.length)).toBe(6);
      // A line two pixels wide, over more than a few of them.
      expect(await paintedPixels(page)).toBeGreaterThan(20);

      await page.click("#pause");
      const paused = stepOf(await state(page, /^Paused/));
      await new Promise((resolve) => setTimeout(resolve, 500));
      expect(stepOf(await textOf(page, "#state"))).toBe(paused);
      await page.click("#step");
      await state(page, new RegExp(`^Paused: ${paused + 1} of`));
      await page.click("#pause"); // it reads "Resume" now
      await state(page, new RegExp(`^Running: (${paused + 3}|${paused + 4}|${paused + 5}) of`));

      const { longest, frames } = await longestGap(page);
      console.log(`longest gap between frames: ${longest.toFixed(0)} ms, of ${frames} frames`);
      expect(longest).toBeLessThan(HANGS_MS);

      await page.click("#stop");
      const stopped = stepOf(await state(page, /^Stopped/));
      expect(stopped).toBeGreaterThan(paused);

      await page.reload();
      await page.waitForSelector("#saved:not([hidden])");
      expect(await textOf(page, "#saved-text")).toBe(
        `A run of ReMax is saved in this browser, at step ${stopped} of 400.`,
      );
      await page.click("#saved-resume");
      expect(stepOf(await state(page, new RegExp(`^Running: (${stopped + 1}|${stopped + 2}|${stopped + 3}) of`))))
        .toBeGreaterThan(stopped);
      await page.click("#stop");
      await state(page, /^Stopped/);
      await page.waitForSelector("#saved:not([hidden])");
      await page.click("#saved-discard");
      await page.waitForSelector("#saved[hidden]");
      expect(await errorShown(page)).toBe(false);
    });
  });

  it("runs DPO to its end from the keyboard", async () => {
    await withPage(`#algorithm=dpo&maxSteps=2&learningRate=0.001&beta=0.2&seed=1&${models}`, async (page) => {
      await page.focus("#setting-seed");
      await page.keyboard.press("Enter");
      await state(page, /^Done: 2 of 2/);
      expect(await textOf(page, "#charts")).toMatch(/Loss.*at step 2/);
      expect(await errorShown(page)).toBe(false);
    });
  });

  it("runs best-of-n", async () => {
    await withPage(`#algorithm=best-of-n&n=4&count=3&seed=1&${models}`, async (page) => {
      await page.click("#start");
      await state(page, /^Done: 3 of 3/);
      expect(await textOf(page, "#charts")).toMatch(/at n 4/);
      expect(await page.$$eval("#samples-body tr", (rows) => rows.length)).toBe(3);
      expect(await errorShown(page)).toBe(false);
    });
  });

  it("keeps the recipe in its address", async () => {
    await withPage("", async (page) => {
      await page.click('input[value="dpo"]');
      expect(await page.evaluate(() => location.hash)).toMatch(
        /^#algorithm=dpo&maxSteps=\d+&learningRate=[\d.]+&beta=[\d.]+&seed=\d+$/,
      );
      await page.$eval("#setting-beta", (input) => (input as HTMLInputElement).value = "");
      await page.type("#setting-beta", "0.25");
      expect(await page.evaluate(() => location.hash)).toContain("beta=0.25");
    });
  });

  it("shows errors in a box that can be dismissed", async () => {
    await withPage("#algorithm=remix", async (page) => {
      expect(await textOf(page, "#error")).toContain('did you mean "remax"');
      await page.click("#error-close");
      expect(await errorShown(page)).toBe(false);
      await page.evaluate((hash) => location.hash = hash, `algorithm=remax&${models.replace("tiny", "none")}`);
      await page.click("#start");
      await page.waitForSelector("#error:not([hidden])");
      expect(await textOf(page, "#error")).toContain("model-config-missing");
      expect(await textOf(page, "#state")).toBe("Ended early");
      expect(await page.$eval("#start", (button) => (button as HTMLButtonElement).disabled)).toBe(false);
    });
  });
});
