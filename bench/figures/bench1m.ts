/** bench-1m: the llama-like model of 1.1 million parameters that training and decoding are measured on. */
import type { ModelConfig } from "../../src/models/config.ts";

export const bench1m: ModelConfig = {
  family: "llama",
  head: "lm",
  vocabSize: 512,
  hiddenSize: 128,
  layers: 4,
  heads: 4,
  kvHeads: 4,
  headDim: 32,
  intermediateSize: 512,
  maxPositions: 256,
  normEps: 1e-5,
  ropeTheta: 10000,
  tieEmbeddings: true,
  activation: "silu",
  attentionBias: false,
  bosTokenId: undefined,
  eosTokenIds: [],
  padTokenId: 0,
  initializerRange: 0.02,
  storedAs: "float32",
};

export const SEED = 1;

/** Row b counts through the vocabulary in steps of b + 1: a few dozen steps of training learn it. */
export function countingRow(row: number, length: number): number[] {
  return Array.from(
    { length },
    (_, t) => (31 * row + (row + 1) * t) % bench1m.vocabSize,
  );
}
