/** How a run goes: a bar on a terminal, a line now and then elsewhere. Both on stderr. */
import { SingleBar } from "cli-progress";
import type { StepDone } from "../run/session.ts";
import { short } from "./output.ts";

export interface Progress {
  update(event: StepDone): void;
  stop(): void;
}

/** `labels` names the metrics to show. */
export function createProgress(start: number, total: number, labels: Readonly<Record<string, string>>): Progress {
  const terminal = Deno.stderr.isTerminal();
  const bar = new SingleBar({
    format: "{bar} {value}/{total}  {words}  {eta_formatted} left",
    stream: process.stderr,
    hideCursor: true,
    barsize: 24,
    barCompleteChar: "█",
    barIncompleteChar: "░",
  });
  if (terminal) bar.start(total, start, { words: "" });
  const every = Math.max(1, Math.round(total / 10));
  return {
    update(event) {
      const words = describe(event, labels);
      if (terminal) bar.update(event.step, { words });
      else if (event.step % every === 0 || event.step === total) console.error(`step ${event.step}/${total}  ${words}`);
    },
    stop() {
      if (terminal) bar.stop();
    },
  };
}

function describe({ metrics, seconds, skipped }: StepDone, labels: Readonly<Record<string, string>>): string {
  const parts = Object.entries(labels).filter(([name]) => name in metrics).map(([name, label]) =>
    `${label.replace(/ .*/, "")} ${short(metrics[name])}`
  );
  const tokens = metrics.num_tokens;
  if (tokens !== undefined) parts.push(`${Math.round(tokens / seconds)} tokens/s`);
  if (skipped) parts.push("skipped: the gradient is not finite");
  return parts.join("  ");
}
