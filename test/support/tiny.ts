/** Models small enough that a test takes seconds. */
import type { ModelConfig } from "../../src/models/config.ts";

/** A llama of one layer with the given changes. */
export const tinyConfig = (changes: Partial<ModelConfig> = {}): ModelConfig => ({
  family: "llama",
  head: "lm",
  vocabSize: 32,
  hiddenSize: 16,
  layers: 1,
  heads: 2,
  kvHeads: 1,
  headDim: 8,
  intermediateSize: 32,
  maxPositions: 32,
  normEps: 1e-6,
  ropeTheta: 10000,
  tieEmbeddings: true,
  activation: "silu",
  attentionBias: false,
  bosTokenId: undefined,
  eosTokenIds: [1],
  padTokenId: 0,
  initializerRange: 0.1,
  storedAs: "float32",
  ...changes,
});
