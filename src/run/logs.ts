/** The logs of a run: JSON Lines in which every line carries the step it belongs to. */
import type { Store } from "../storage/store.ts";

export type Metrics = Readonly<Record<string, number | null>>;

/** One step of metrics.jsonl: not-finite numbers are null there. */
export interface MetricsLine {
  readonly step: number;
  readonly metrics: Metrics;
}

export const METRICS = "metrics.jsonl";
export const SAMPLES = "samples.jsonl";

/** Adds one object as a line. */
export const appendLine = (store: Store, name: string, value: object): Promise<void> =>
  store.append(name, JSON.stringify(value) + "\n");

/** Drops the lines after `step`, and a line that an interrupted write left unfinished. */
export async function cutBack(store: Store, name: string, step: number): Promise<void> {
  const bytes = await store.read(name);
  if (bytes === undefined) return;
  const text = new TextDecoder().decode(bytes);
  const kept = linesOf(text).filter((line) => (stepOf(line) ?? Infinity) <= step);
  if (kept.length === 0) return await store.remove(name);
  const rest = kept.map((line) => line + "\n").join("");
  if (rest !== text) await store.write(name, new TextEncoder().encode(rest));
}

/** The lines of metrics.jsonl, for curves and tables. */
export async function readMetrics(store: Pick<Store, "read">): Promise<MetricsLine[]> {
  const bytes = await store.read(METRICS);
  return linesOf(new TextDecoder().decode(bytes)).filter((line) => stepOf(line) !== undefined).map((line) => {
    const { step, ...metrics } = JSON.parse(line);
    return { step, metrics };
  });
}

const linesOf = (text: string): string[] => text.split("\n").filter((line) => line !== "");

function stepOf(line: string): number | undefined {
  try {
    const { step } = JSON.parse(line);
    return typeof step === "number" ? step : undefined;
  } catch {
    return undefined; // the end of an interrupted write
  }
}
