import { spawn } from "node:child_process";
import { createRequire } from "node:module";
import { constants } from "node:os";
import { fileURLToPath } from "node:url";

const root = fileURLToPath(new URL("..", import.meta.url));
const signals = ["SIGINT", "SIGTERM", "SIGHUP"];

/**
 * A Ctrl-C under npm arrives twice: from the terminal, which signals the whole group, and from npm, which passes it on.
 * The same signal within this time is taken for one. A person who presses again is slower.
 */
const sameSignalMs = 300;

/**
 * Runs the `deno` package's binary, with this process's stdio, and waits for it.
 *
 * @param {readonly string[]} args what follows `deno` on the command line
 * @param {import("node:child_process").SpawnOptions} [options] such as `cwd`
 * @returns {Promise<number>} its exit code; 128 + n when signal n ended it
 */
export function runDeno(args, options = {}) {
  const path = createRequire(import.meta.url)("deno/install_api.cjs").runInstall();
  const env = { ...process.env, DENO_NO_UPDATE_CHECK: "1" };
  // The Vulkan loader otherwise prints an error for every device where no desktop session has set this.
  env.XDG_RUNTIME_DIR ??= "/tmp";
  const posix = process.platform !== "win32";
  // A process group of its own, so that every signal reaches the child from here alone, and exactly once.
  const child = spawn(path, args, { stdio: "inherit", env, detached: posix, ...options });

  const last = new Map();
  const forward = (signal) => {
    const now = Date.now();
    if (now - (last.get(signal) ?? -Infinity) < sameSignalMs) return;
    last.set(signal, now);
    // A Windows console signals all of its processes by itself; there it is enough to outlive the child.
    if (posix) child.kill(signal);
  };
  for (const signal of signals) process.on(signal, forward);

  return new Promise((resolve, reject) => {
    child.once("error", reject);
    child.once("close", (code, signal) => {
      for (const name of signals) process.off(name, forward);
      resolve(code ?? 128 + constants.signals[signal]);
    });
  });
}

/**
 * Runs Attune's command line under Deno.
 *
 * @param {readonly string[]} args such as `["align", "--steps", "20"]`
 * @returns {Promise<number>} the exit code
 */
export const runAttune = (args) =>
  runDeno(["run", "-A", "--quiet", "--config", `${root}deno.json`, `${root}src/cli/main.ts`, ...args]);
