/** Rollouts: texts from a model, and the log-probabilities of texts under a model. */
import type { Batch } from "../data/batch.ts";
import { scopeOf } from "../graph/parameters.ts";
import type { Model } from "../models/model.ts";
import type { Backend } from "../plan/backend.ts";
import { program } from "../plan/program.ts";

/** log π(y_t | x, y_<t) of every position of a batch, row-major [B, T]. */
export type Scorer = (batch: Batch) => Promise<Float32Array>;

/** Scores batches under a model that stays as it is: the reference policy. */
export function createScorer(backend: Backend, model: Model): Scorer {
  const score = program(backend, `${model.parameters.label}: log-probabilities`, ({ tokens, targets, lengths }) => ({
    outputs: { logp: model.net(scopeOf(model.parameters)).tokenStats(tokens, targets, { lengths }).logp },
    effects: [],
  }));
  return async ({ tokens, targets, lengths }) => Float32Array.from((await score.run({ tokens, targets, lengths })).logp);
}

/** Σ_t x_t · mask_t of each row, in float64. */
export function rowSums(x: ArrayLike<number>, mask: ArrayLike<number>, rows: number): number[] {
  const width = x.length / rows;
  return Array.from({ length: rows }, (_, b) => {
    let total = 0;
    for (let i = b * width; i < (b + 1) * width; i++) if (mask[i] !== 0) total += x[i];
    return total;
  });
}
