// npm run reproduce -- NAME: sets up what is missing, then repeats one of the published results.
import { prepare } from "./prepare.mjs";

prepare({ vulkan: true });
const { runAttune } = await import("../bin/launch.mjs");
process.exitCode = await runAttune(["reproduce", ...process.argv.slice(2)]);
