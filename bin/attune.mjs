#!/usr/bin/env node
import { runAttune } from "./launch.mjs";

process.exitCode = await runAttune(process.argv.slice(2));
