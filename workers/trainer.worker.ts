/** The training worker: everything that computes runs here, so that the page never waits. */
import { expose, transfer } from "comlink";
import { AttuneError } from "../src/core/errors.ts";
import type { Answering, Outcome, TrainerApi } from "./protocol.ts";
import { createTrainerApi } from "./trainer.ts";

// From within and a moment later: the answer to close() still goes out, and Deno crashes when a worker that has used
// WebGPU is terminated from outside.
const api = createTrainerApi(() => setTimeout(() => globalThis.close(), 0));

async function answer<T>(task: () => Promise<T>): Promise<Outcome<T>> {
  try {
    return { value: await task() };
  } catch (error) {
    if (error instanceof AttuneError) return { error: { code: error.code, message: error.message } };
    console.error(error);
    return { error: { code: "internal", message: error instanceof Error ? error.message : String(error) } };
  }
}

const answering: Answering<TrainerApi> = {
  start: (...given) => answer(() => api.start(...given)),
  select: (...given) => answer(() => api.select(...given)),
  pause: () => answer(api.pause),
  resume: () => answer(api.resume),
  step: () => answer(api.step),
  stop: () => answer(api.stop),
  sample: (...given) => answer(() => api.sample(...given)),
  checkpoint: async () => {
    const outcome = await answer(api.checkpoint);
    return "value" in outcome ? transfer(outcome, [...outcome.value.values()].map(({ buffer }) => buffer)) : outcome;
  },
  runs: () => answer(api.runs),
  remove: (run) => answer(() => api.remove(run)),
  close: () => answer(api.close),
};

expose(answering);
