// npm run demo, npm run build: sets up the packages, then Vite with the arguments given, under Deno as the tests are.
import { runDeno } from "../bin/launch.mjs";
import { prepare } from "./prepare.mjs";

prepare();
process.exitCode = await runDeno(["run", "-A", "node_modules/vite/bin/vite.js", ...process.argv.slice(2)]);
