import puppeteer, { type Browser } from "puppeteer";
import { findChromium } from "./chromium-path.mjs";

/** Chromium flags that give WebGPU on a machine with or without a graphics card. */
export const chromiumArgs: readonly string[] = [
  ...(process.getuid?.() === 0 ? ["--no-sandbox"] : []),
  "--enable-unsafe-webgpu",
  // All three are needed to present a WebGPU canvas on SwiftShader; without them the GPU process dies.
  "--use-angle=swiftshader",
  "--enable-features=Vulkan",
  "--use-vulkan=swiftshader",
  "--disable-quic",
  "--no-first-run",
  "--disable-background-networking",
  "--disable-component-update",
  "--disable-sync",
  // A browser otherwise gives no adapter after the second crash of its GPU process.
  "--disable-gpu-process-crash-limit",
  "--disable-domain-blocking-for-3d-apis",
];

/** Starts a headless Chromium: the machine's own, or puppeteer's download where none is found. */
export const launch = (extraArgs: readonly string[] = []): Promise<Browser> => {
  const executablePath = findChromium();
  return puppeteer.launch({
    ...(executablePath ? { executablePath } : {}),
    headless: true,
    args: [...chromiumArgs, ...extraArgs],
  });
};
