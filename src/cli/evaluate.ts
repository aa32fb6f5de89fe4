/** How good a policy is and how far it went: gold reward and sampled KL over held-out prompts. */
import { createScorer, rowSums } from "../algorithms/rollout.ts";
import { collate } from "../data/batch.ts";
import { decodeCompletion, encodePrompt } from "../data/format.ts";
import type { Tokenizer } from "../data/tokenizer.ts";
import { createGenerator } from "../generate/generate.ts";
import type { Model } from "../models/model.ts";
import type { Backend } from "../plan/backend.ts";
import { callReward, type Reward } from "../rl/reward.ts";

export interface Evaluation {
  /** Rewards of one sampled completion a prompt. */
  readonly rewards: readonly number[];
  /** Mean over prompts of Σ_t log π(y_t) − log π_ref(y_t) with y ~ π, in nats. */
  readonly kl: number;
  /** Mean tokens of a completion. */
  readonly length: number;
}

interface Evaluated {
  readonly backend: Backend;
  readonly policy: Model;
  readonly reference: Model;
  readonly tokenizer: Tokenizer;
  readonly signal?: AbortSignal;
}

const ROWS = 64; // completions generated at a time

/** Samples one completion a prompt at temperature 1. The same seed draws the same noise for every policy. */
export async function evaluate(
  { backend, policy, reference, tokenizer, signal }: Evaluated,
  prompts: readonly string[],
  reward: Reward,
  { maxNewTokens, seed }: { maxNewTokens: number; seed: number },
): Promise<Evaluation> {
  const generator = createGenerator(backend, policy);
  const score = createScorer(backend, reference);
  const batching = {
    padTokenId: tokenizer.padTokenId,
    vocabSize: policy.config.vocabSize,
    maxLength: policy.config.maxPositions,
  };
  const rewards: number[] = [];
  let [kl, tokens] = [0, 0];
  try {
    for (let start = 0; start < prompts.length; start += ROWS) {
      const x = prompts.slice(start, start + ROWS);
      const ids = x.map((prompt) => encodePrompt(tokenizer, prompt));
      const completions = await generator.generate(ids, {
        maxNewTokens,
        seed,
        rowIds: x.map((_, b) => start + b),
        ...(signal && { signal }),
      });
      const batch = collate(completions.map((c, b) => ({ promptIds: ids[b], completionIds: c.tokens })), batching);
      const referenceSums = rowSums(await score(batch), batch.mask.data, x.length);
      completions.forEach((c, b) => {
        kl += c.logps.reduce((n, logp) => n + logp, 0) - referenceSums[b];
        tokens += c.tokens.length;
      });
      rewards.push(...await callReward(reward, x, completions.map((c) => decodeCompletion(tokenizer, c.tokens))));
    }
  } finally {
    generator.close();
  }
  return { rewards, kl: kl / prompts.length, length: tokens / prompts.length };
}
