/** What the bundled model wants: all that was tuned for it, in one place for the command line and the page. */

/** Configurations for the bundled model, where it wants others than the algorithm's defaults. */
export const BUNDLED_CONFIG = {
  remax: {
    maxSteps: 40,
    learningRate: 3e-4,
    lrSchedulerType: "constant",
    warmupSteps: 2,
    perDeviceTrainBatchSize: 24,
    maxCompletionLength: 48,
    topP: 1,
    klCoef: 0.05,
    gamma: 1,
  },
  dpo: { maxSteps: 80, learningRate: 5e-4, warmupSteps: 10, perDeviceTrainBatchSize: 16, beta: 0.1 },
  reward: {
    maxSteps: 500,
    learningRate: 2e-3,
    lrSchedulerType: "cosine",
    warmupSteps: 20,
    perDeviceTrainBatchSize: 32,
    centerRewardsCoefficient: 0.01,
  },
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
