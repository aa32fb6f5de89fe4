/** The page's side of the training worker. */
import { proxy, type Remote, transfer, wrap } from "comlink";
import { AttuneError } from "../src/core/errors.ts";
import type { Reward } from "../src/rl/reward.ts";
import type {
  Answering,
  ModelSource,
  Outcome,
  RemoteReward,
  ResumeRequest,
  RunEnd,
  RunRequest,
  SelectRequest,
  TrainerApi,
  TrainerEvent,
} from "./protocol.ts";

export type * from "./protocol.ts";

type Control = Omit<TrainerApi, "start" | "select">;

/**
 * Training in a worker. The bytes of a request's model files are moved there: the page's own views of them are empty
 * afterwards. All methods throw AttuneErrors with the worker's codes, `trainer-busy`, `trainer-idle`, `trainer-failed`
 * (the worker's script broke down), `trainer-closed` and `model-files` (moved before) among them.
 */
export interface Trainer extends Control {
  /** Trains; gives the end of the run after its last event. A reward function runs on the page, batch by batch. */
  start(request: RunRequest | ResumeRequest, onEvent: (event: TrainerEvent) => void, reward?: Reward): Promise<RunEnd>;
  /** Best-of-n, otherwise as {@link Trainer.start}. */
  select(request: SelectRequest, onEvent: (event: TrainerEvent) => void, reward?: Reward): Promise<RunEnd>;
}

export function createTrainer(): Trainer {
  const worker = new Worker(new URL("./trainer.worker.ts", import.meta.url), { type: "module", name: "attune" });
  const remote = wrap<Answering<TrainerApi>>(worker);
  let closed = false;

  // Without this a script that does not load would leave every call waiting.
  const broken = new Promise<never>((_, reject) => {
    worker.addEventListener("error", (event) => {
      reject(
        new AttuneError(
          "trainer-failed",
          `the training worker broke down: ${event.message || "its script did not load"}; reload the page`,
        ),
      );
    });
  });
  broken.catch(() => undefined); // it is reported by the calls

  async function call<T>(send: (remote: Remote<Answering<TrainerApi>>) => Promise<Outcome<T>>): Promise<T> {
    if (closed) throw new AttuneError("trainer-closed", "the trainer was closed; create a new one");
    const outcome = await Promise.race([send(remote), broken]);
    if ("value" in outcome) return outcome.value;
    throw new AttuneError(outcome.error.code, outcome.error.message);
  }

  return {
    start: (request, onEvent, reward) =>
      call((remote) => remote.start(moved(request), handler(onEvent), remoteReward(reward))),
    select: (request, onEvent, reward) =>
      call((remote) => remote.select(moved(request), handler(onEvent), remoteReward(reward))),
    pause: () => call((remote) => remote.pause()),
    resume: () => call((remote) => remote.resume()),
    step: () => call((remote) => remote.step()),
    stop: () => call((remote) => remote.stop()),
    sample: (prompts, options) => call((remote) => remote.sample([...prompts], options)),
    checkpoint: () => call((remote) => remote.checkpoint()),
    runs: () => call((remote) => remote.runs()),
    remove: (run) => call((remote) => remote.remove(run)),
    async close() {
      if (closed) return;
      await call((remote) => remote.close());
      closed = true;
    },
  };
}

/** The request with its models' bytes marked to be moved. */
function moved<T extends object>(request: T & { model?: ModelSource; rewardModel?: ModelSource | undefined }): T {
  const sources = [request.model, request.rewardModel].filter((source) => source !== undefined);
  const buffers = sources.flatMap((source) => "files" in source ? [...source.files.values()].map((b) => b.buffer) : []);
  if (buffers.some((buffer) => buffer.detached)) {
    throw new AttuneError(
      "model-files",
      "expected a model's files, got empty ones that an earlier call has moved; read them again",
    );
  }
  return transfer(request, [...new Set(buffers)]);
}

/** An error in the page's handler is the page's: the run goes on. */
const handler = (onEvent: (event: TrainerEvent) => void) =>
  proxy((event: TrainerEvent): void => {
    try {
      onEvent(event);
    } catch (error) {
      reportError(error);
    }
  });

const remoteReward = (reward: Reward | undefined): RemoteReward | undefined =>
  reward && proxy(async (prompts: string[], completions: string[]) => [...await reward(prompts, completions, {})]);
