/** Timing: contenders take turns, so that whatever else the machine does falls on all of them, and medians are compared. */
import { type GpuBackend, gpuBackend } from "../src/plan/compile.ts";
import { openGpu } from "../src/gpu/device.ts";

/** One side of a comparison. */
export interface Contender {
  readonly name: string;
  /** Does the figure's work once, and waits until the device has done it. */
  run(): Promise<void>;
  /** Throws unless the work of the last run is right: a wrong result has no speed. */
  check(): Promise<void>;
  close(): void;
}

export type Host = "chromium" | "deno";

export interface Figure {
  readonly name: string;
  /** What one run does, for people. */
  readonly title: string;
  /** Work per second: more is better. */
  readonly unit: string;
  /** How many of the unit's things one run does. */
  readonly work: number;
  /** Ours, and what it is compared with on this host. */
  contenders(
    backend: GpuBackend,
    host: Host,
  ): Promise<
    { readonly ours: Contender; readonly peers: readonly Contender[] }
  >;
}

/** One comparison: a line of `--json`. `figure` and `peerFigure` are in `unit`, `ratio` is the first over the second. */
export interface Comparison {
  readonly name: string;
  readonly host: Host;
  readonly adapter: string;
  readonly figure: number;
  readonly unit: string;
  readonly peer: string;
  readonly peerFigure: number;
  readonly ratio: number;
  readonly repeats: number;
}

/** Runs that are not counted: the first compiles and tunes, the second finds caches warm. */
const WARM_UP = 2;

/** Measures one figure on this host's adapter: one comparison per peer. */
export async function measure(
  figure: Figure,
  host: Host,
  repeats: number,
): Promise<Comparison[]> {
  const gpu = await openGpu();
  try {
    const { ours, peers } = await figure.contenders(gpuBackend(gpu), host);
    const all = [ours, ...peers];
    const seconds = new Map(all.map((c) => [c, [] as number[]]));
    for (const c of all) for (let i = 0; i < WARM_UP; i++) await c.run();
    for (let i = 0; i < repeats; i++) {
      for (const [c, times] of seconds) times.push(await time(c));
    }
    for (const c of all) await c.check();
    for (const c of all) c.close();
    const rate = (c: Contender): number => figure.work / median(seconds.get(c) ?? []);
    const { name, unit } = figure;
    const line = { name, host, adapter: gpu.adapter, figure: rate(ours), unit };
    return peers.map((p) => ({
      ...line,
      peer: p.name,
      peerFigure: rate(p),
      ratio: rate(ours) / rate(p),
      repeats,
    }));
  } finally {
    gpu.close();
  }
}

async function time(contender: Contender): Promise<number> {
  const start = performance.now();
  await contender.run();
  return (performance.now() - start) / 1000;
}

export function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = sorted.length >> 1;
  return sorted.length % 2 === 1 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2;
}
