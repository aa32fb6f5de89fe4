/** `npm run bench`: our figures beside those of other libraries, measured in the same run on the same adapter. */
import { parseArgs } from "node:util";
import { AttuneError, unknownName } from "../src/core/errors.ts";
import { openChromium } from "./chromium.ts";
import { figures } from "./figures/index.ts";
import { type Comparison, type Figure, type Host, measure } from "./measure.ts";

const HELP = `npm run bench -- [options]

  --json           one line of JSON per comparison on stdout: name, host, adapter, figure, unit, peer, peerFigure, ratio
  --only NAMES     figures to measure, separated by commas: ${figures.map((f) => f.name).join(", ")}
  --host NAMES     where: chromium, deno or both, separated by commas (default: chromium,deno)
  --repeats N      timed runs of each contender, of which the median counts (default: 5)
  --help           this text`;

const HOSTS: readonly Host[] = ["chromium", "deno"];

interface Options {
  readonly json: boolean;
  readonly figures: readonly Figure[];
  readonly hosts: readonly Host[];
  readonly repeats: number;
}

/** Errors: `bench-options`, `unknown-figure`, `unknown-host`. */
function readOptions(args: readonly string[]): Options | "help" {
  const values = parse(args);
  if (values.help) return "help";
  const repeats = Number(values.repeats);
  if (!Number.isInteger(repeats) || repeats < 1) {
    throw new AttuneError(
      "bench-options",
      `--repeats is a whole number above 0, got ${values.repeats}`,
    );
  }
  return {
    json: values.json,
    repeats,
    hosts: choose("host", values.host, HOSTS, (h) => h),
    figures: choose(
      "figure",
      values.only ?? figures.map((f) => f.name).join(","),
      figures,
      (f) => f.name,
    ),
  };
}

function parse(args: readonly string[]) {
  try {
    return parseArgs({
      args: [...args],
      options: {
        json: { type: "boolean", default: false },
        only: { type: "string" },
        host: { type: "string", default: HOSTS.join(",") },
        repeats: { type: "string", default: "5" },
        help: { type: "boolean", default: false },
      },
    }).values;
  } catch (cause) {
    throw new AttuneError(
      "bench-options",
      `${cause instanceof Error ? cause.message : cause}\n\n${HELP}`,
      { cause },
    );
  }
}

function choose<T>(
  what: string,
  list: string,
  known: readonly T[],
  nameOf: (t: T) => string,
): T[] {
  return list.split(",").map((name) => {
    const found = known.find((t) => nameOf(t) === name.trim());
    if (found === undefined) {
      throw unknownName(what, name.trim(), known.map(nameOf));
    }
    return found;
  });
}

async function run({ json, figures, hosts, repeats }: Options): Promise<void> {
  for (const host of hosts) {
    const page = host === "chromium" ? await openChromium() : undefined;
    try {
      for (const figure of figures) {
        console.error(`${host}: ${figure.title} ...`);
        const lines = page ? await page.measure(figure.name, repeats) : await measure(figure, host, repeats);
        for (const line of lines) {
          console.log(json ? JSON.stringify(line) : describe(line));
        }
      }
    } finally {
      await page?.close();
    }
  }
}

function describe(
  { name, adapter, figure, unit, peer, peerFigure, ratio }: Comparison,
): string {
  const number = (x: number): string => x.toLocaleString("en", { maximumSignificantDigits: 3, useGrouping: false });
  const columns = [
    name.padEnd(22),
    `${number(figure)} ${unit}`.padEnd(16),
    `${peer} ${number(peerFigure)}`.padEnd(26),
    `${ratio.toFixed(1)}x`.padStart(6),
  ];
  return `${columns.join("  ")}  on ${adapter}`;
}

try {
  const options = readOptions(Deno.args);
  if (options === "help") console.log(HELP);
  else await run(options);
  // jax-js keeps its device open, and with it the event loop.
  Deno.exit(0);
} catch (error) {
  if (!(error instanceof AttuneError)) throw error;
  console.error(error.message);
  Deno.exit(1);
}
