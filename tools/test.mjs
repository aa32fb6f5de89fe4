// npm test: sets up what is missing, then runs every test in Deno and in Chromium. Arguments go to Vitest.
import { runDeno } from "../bin/launch.mjs";
import { prepare } from "./prepare.mjs";

prepare({ vulkan: true, chromium: true });
// Vitest itself runs under Deno, so that its workers have Deno's WebGPU and the version of Node does not matter.
process.exitCode = await runDeno(["run", "-A", "node_modules/vitest/vitest.mjs", "run", ...process.argv.slice(2)]);
