// npm run check: types, lint and format. All three run, so that one call shows everything there is to mend.
import { spawnSync } from "node:child_process";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import { runDeno } from "../bin/launch.mjs";
import { prepare } from "./prepare.mjs";

prepare();
const typescript = dirname(createRequire(import.meta.url).resolve("typescript/package.json"));
const types = spawnSync(process.execPath, [join(typescript, "bin", "tsc"), "-p", "."], { stdio: "inherit" }).status;
const lint = await runDeno(["lint", "--quiet"]);
const format = await runDeno(["fmt", "--check"]);
process.exitCode = types === 0 && lint === 0 && format === 0 ? 0 : 1;
