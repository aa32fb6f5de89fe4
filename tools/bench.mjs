// npm run bench: sets up what is missing, the peers of bench/package.json among it, then runs the benchmarks.
import { fileURLToPath } from "node:url";
import { runDeno } from "../bin/launch.mjs";
import { prepare } from "./prepare.mjs";

prepare({ vulkan: true, chromium: true });
prepare({ folder: fileURLToPath(new URL("../bench", import.meta.url)) });
process.exitCode = await runDeno(["run", "-A", "--quiet", "bench/main.ts", ...process.argv.slice(2)]);
