// npm start: sets up what is missing, then `attune align` with the arguments given. Node built-ins only until then.
import { prepare } from "./prepare.mjs";

prepare({ vulkan: true });
const { runAttune } = await import("../bin/launch.mjs");
process.exitCode = await runAttune(["align", ...process.argv.slice(2)]);
