/** The bundled task and models: everything about them that was tuned, in one place. */
import { exchanges, prompts } from "../data/tasks/world.ts";
import { goldReward } from "../data/tasks/gold.ts";
import { preferencePairs } from "../data/tasks/preferences.ts";
import type { CompletionRow, PreferenceRow, PromptRow } from "../data/rows.ts";
import type { Reward } from "../rl/reward.ts";

export const BUNDLED_MODEL = new URL("../../models/attune-1m", import.meta.url);
export const BUNDLED_REWARD = new URL("../../models/attune-1m-reward", import.meta.url);

/** The seed of the bundled data: a run's own seed decides their order. */
const DATA_SEED = 1;

/** Configurations for the bundled model, where it wants others than the algorithm's defaults. */
export const BUNDLED_CONFIG = {
  remax: {
    maxSteps: 60,
    learningRate: 2e-4,
    lrSchedulerType: "constant",
    warmupSteps: 2,
    perDeviceTrainBatchSize: 16,
    maxCompletionLength: 48,
    topP: 1,
    klCoef: 0.02,
    gamma: 1,
  },
  dpo: { maxSteps: 100, learningRate: 2e-4, warmupSteps: 10, perDeviceTrainBatchSize: 16, beta: 0.1 },
  reward: { maxSteps: 300, learningRate: 1e-3, warmupSteps: 20, perDeviceTrainBatchSize: 32 },
  sft: {
    maxSteps: 300,
    learningRate: 1e-3,
    lrSchedulerType: "cosine",
    warmupSteps: 20,
    adamBeta2: 0.98,
    perDeviceTrainBatchSize: 32,
    groupByLength: true,
  },
  "best-of-n": { n: 8, maxCompletionLength: 48 },
} as const;

/** Pre-training is on a fresh model: many small steps teach it sooner than few large ones. */
export const PRETRAIN_CONFIG = {
  maxSteps: 1500,
  learningRate: 2e-3,
  lrSchedulerType: "cosine",
  warmupSteps: 40,
  weightDecay: 0.01,
  adamBeta2: 0.98,
  perDeviceTrainBatchSize: 16,
  groupByLength: true,
} as const;

/** The sizes of a fresh model: about a million parameters. */
export const FRESH_SIZES = {
  vocabSize: 512,
  layers: 4,
  hiddenSize: 128,
  heads: 4,
  intermediateSize: 448,
  maxPositions: 128,
};

/** How many rows of each kind there are. */
const COUNTS = { exchanges: 30000, prompts: 2048, pairs: 8192, heldout: 32, bestOfN: 16 };

export const bundledExchanges = (count: number = COUNTS.exchanges): CompletionRow[] =>
  exchanges({ seed: DATA_SEED, split: "train", count });

export const bundledPrompts = (): PromptRow[] => prompts({ seed: DATA_SEED, split: "prompts", count: COUNTS.prompts });

export const bundledPairs = (): PreferenceRow[] =>
  preferencePairs({ seed: DATA_SEED, split: "pairs", count: COUNTS.pairs });

/** Prompts that no training saw. */
export const heldOutPrompts = (count: number = COUNTS.heldout): PromptRow[] =>
  prompts({ seed: DATA_SEED, split: "heldout", count });

export const bestOfNPrompts = (): PromptRow[] => heldOutPrompts(COUNTS.bestOfN);

/** What people really want, in the synthetic world: for evaluation alone. */
export const goldRewards: Reward = (given, completions) => given.map((prompt, i) => goldReward(prompt, completions[i]));
