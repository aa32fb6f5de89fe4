import { collate, collatePreferences, collateWhole } from "../data/batch.ts";
import type { Tensor } from "../core/shape.ts";
import { createModel } from "../models/model.ts";
import type { Inputs } from "../plan/backend.ts";
import { showBytes } from "../plan/print.ts";
import { type Algorithm, algorithmNamed, algorithmNames } from "../run/algorithms.ts";
import { peakBytes } from "../run/plans.ts";
import { withScoreHead } from "../run/reward.ts";
import type { Command } from "./command.ts";
import { openBackend, openModel } from "./inputs.ts";
import { COMMON, MODEL } from "./options.ts";

export const planCommand: Command = {
  name: "plan",
  description: "Show what a training step dispatches and how much memory it takes, without running it.",
  options: {
    ...MODEL,
    algorithm: { type: "string", description: `${algorithmNames.join(" | ")} (default sft)`, valueHint: "NAME" },
    "batch-size": {
      type: "string",
      description: "rows of a micro-batch; pairs for dpo and reward (default 8)",
      valueHint: "N",
    },
    length: {
      type: "string",
      description: "input tokens of a row (default: the context, at most 128)",
      valueHint: "N",
    },
    "gradient-checkpointing": { type: "boolean", description: "recompute blocks in the backward pass" },
    dispatches: { type: "boolean", description: "show every dispatch" },
    seed: { type: "string", description: "for uniformity: a plan draws nothing", valueHint: "N" },
    ...COMMON,
  },
  async run(options, output) {
    const name = options.text("algorithm") ?? "sft";
    const algorithm = algorithmNamed(name);
    const rows = options.integer("per-device-train-batch-size", 1, 2 ** 16) ?? 8;
    const { folder: opened } = await openModel(options.text("model"));
    const folder = algorithm.head === "score" && opened.config.head === "lm" ? withScoreHead(opened, 0) : opened;
    const length = options.integer("length", 1, folder.config.maxPositions) ??
      Math.min(128, folder.config.maxPositions);
    const backend = await openBackend();
    const policy = createModel(backend, folder.config, folder.tensors, "policy");
    const config = algorithm.config({
      perDeviceTrainBatchSize: rows,
      gradientCheckpointing: options.flag("gradient-checkpointing"),
    });
    const plan = await algorithm.step(backend, policy, config).plan(exampleBatch(algorithm, name, rows, length), {
      learningRate: 0,
      maxGradNorm: 0,
    });
    const { budget } = plan;
    const text = plan.toString();
    output.say(options.flag("dispatches") ? text : text.split("\n")[0]);
    for (const [part, bytes] of Object.entries(budget)) {
      output.say(`  ${part.padEnd(10)} ${showBytes(bytes).padStart(10)}`);
    }
    output.say(`  ${"peak".padEnd(10)} ${showBytes(peakBytes(budget)).padStart(10)} on ${backend.adapter}`);
    output.emit({
      algorithm: name,
      rows,
      length,
      adapter: backend.adapter,
      peakBytes: peakBytes(budget),
      ...budget,
      ...(options.flag("dispatches") && { plan: text }),
    });
    return 0;
  },
};

/** A batch of the shapes that the algorithm's step takes: `rows` of `length` input tokens, with its knobs. */
function exampleBatch({ data }: Algorithm, name: string, rows: number, length: number): Inputs {
  const options = { vocabSize: 1, padTokenId: 0, maxLength: length + 1, buckets: [length] };
  const ids = (n: number): number[] => Array<number>(n).fill(0);
  const some = <T>(row: T): T[] => Array.from({ length: rows }, () => row);
  const knobs = { normalizer: 1, tokenCount: 1 };
  if (name === "reward") {
    return { ...collateWhole(Array.from({ length: 2 * rows }, () => ids(length)), options), normalizer: 1 };
  }
  switch (data) {
    case "completions":
      return { ...collate(some({ promptIds: ids(1), completionIds: ids(length) }), options), normalizer: 1 };
    case "preferences": {
      const batch = collatePreferences(
        some({ promptIds: ids(1), chosenIds: ids(length), rejectedIds: ids(length) }),
        options,
      );
      return { ...batch, refLogps: { shape: [2 * rows], data: new Float32Array(2 * rows) }, beta: 1, ...knobs };
    }
    case "prompts": {
      const batch = collate(some({ promptIds: ids(1), completionIds: ids(length) }), options);
      const returns: Tensor = { shape: [rows, length], data: new Float32Array(rows * length) };
      return { ...batch, returns, ...knobs };
    }
    default:
      return data satisfies never;
  }
}
