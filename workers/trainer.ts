/** The worker's API over one run at a time. */
import { AttuneError } from "../src/core/errors.ts";
import type { Gate } from "./gate.ts";
import { createJob, type Job, type LiveModel } from "./job.ts";
import type { RunEnd, TrainerApi, TrainerEvent } from "./protocol.ts";
import { loadRequest, removeRun, savedRuns } from "./saved.ts";
import { select } from "./selection.ts";
import { train } from "./training.ts";

/** What a page's event handler looks like from the worker: called by message. */
type SendEvent = (event: TrainerEvent) => unknown;

/** `end` is called when the worker is to close itself. */
export function createTrainerApi(end: () => void): TrainerApi {
  let job: Job | undefined;
  let running: Promise<unknown> | undefined;

  /** Begins a run; the one before is over, and its device with it. */
  async function run(paused: boolean, send: SendEvent, task: (job: Job) => Promise<RunEnd>): Promise<RunEnd> {
    if (running !== undefined) throw new AttuneError("trainer-busy", "a run is under way already; stop it first");
    job?.close();
    let sent: unknown;
    const mine = createJob(paused, (event) => sent = send(event));
    job = mine;
    const ended = task(mine);
    running = ended;
    try {
      return await ended;
    } finally {
      running = undefined;
      // Messages to a handler come in order, but not in order with the answer to this call.
      await sent;
    }
  }

  const current = (): Job => {
    if (job !== undefined && running !== undefined) return job;
    throw new AttuneError("trainer-idle", "no run is under way; start one first");
  };
  const pace = (change: (gate: Gate) => void) => (): Promise<void> =>
    new Promise((resolve) => resolve(change(current().gate)));
  const model = (): { job: Job; model: LiveModel } => {
    if (job?.model !== undefined) return { job, model: job.model };
    throw new AttuneError("trainer-idle", "no model is loaded; start a run and wait until it is ready");
  };
  const stop = async (): Promise<void> => {
    job?.stop();
    await running?.catch(() => undefined); // the run's own call reports it
  };

  return {
    start: (request, onEvent, reward) =>
      run(
        request.paused ?? false,
        onEvent,
        async (job) =>
          "resume" in request
            ? await train(job, await loadRequest(request.resume), { resume: true, reward })
            : await train(job, request, { resume: false, reward }),
      ),
    select: (request, onEvent, reward) => run(request.paused ?? false, onEvent, (job) => select(job, request, reward)),
    pause: pace((gate) => gate.pause()),
    resume: pace((gate) => gate.resume()),
    step: pace((gate) => gate.step()),
    stop,
    sample: async (prompts, options) => {
      const live = model();
      return await live.job.inTurn(() => live.model.sample(prompts, options));
    },
    checkpoint: async () => {
      const live = model();
      return await live.job.inTurn(() => live.model.files());
    },
    runs: () => savedRuns(),
    remove: removeRun,
    async close() {
      await stop();
      job?.close();
      end();
    },
  };
}
