/** Ctrl-C: the first asks a run to stop, the second ends the process. */

const SIGNALS = Deno.build.os === "windows" ? ["SIGINT"] as const : ["SIGINT", "SIGTERM"] as const;

export interface Interrupt {
  readonly signal: AbortSignal;
  /** Signals end the process again. */
  release(): void;
}

/** Listens until it is released. */
export function interruptible(say: (text: string) => void): Interrupt {
  const controller = new AbortController();
  const listener = (): void => {
    if (controller.signal.aborted) Deno.exit(130);
    say("Stopping after the step under way; press again to quit at once, without saving.");
    controller.abort();
  };
  for (const name of SIGNALS) Deno.addSignalListener(name, listener);
  return {
    signal: controller.signal,
    release() {
      for (const name of SIGNALS) Deno.removeSignalListener(name, listener);
    },
  };
}
