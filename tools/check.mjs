// npm run check: types, lint and format. All three run, so that one call shows everything there is to mend.
import { spawnSync } from "node:child_process";
import { existsSync } from "node:fs";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import { runDeno } from "../bin/launch.mjs";
import { prepare } from "./prepare.mjs";

prepare();
const typescript = dirname(createRequire(import.meta.url).resolve("typescript/package.json"));
// The benches' peers are packages of their own, there once `npm run bench` has run.
const projects = [".", ...(existsSync("bench/node_modules") ? ["bench"] : [])];
const tsc = (project) =>
  spawnSync(process.execPath, [join(typescript, "bin", "tsc"), "-p", project], { stdio: "inherit" }).status;
const types = projects.map(tsc).every((status) => status === 0);
const lint = await runDeno(["lint", "--quiet"]);
const format = await runDeno(["fmt", "--check"]);
process.exitCode = types && lint === 0 && format === 0 ? 0 : 1;
