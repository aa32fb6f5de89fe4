/** ReMax's returns, on the host: a few numbers per token, from rewards that come from the host anyway. */
import { AttuneError } from "../core/errors.ts";

/**
 * How the KL penalty enters a token's return; the published code and verl's differ.
 *
 * - oneStep: only the token's own KL, and the reward difference discounted by γ^(tokens to the end), which is γ for the
 *   last token (the ReMax repository).
 * - cumulative: the KL of this and all later tokens, no discount, no clip (verl).
 * - none: the reward difference alone (the paper's Algorithm 1).
 */
export type KlHandling = "oneStep" | "cumulative" | "none";

export interface ReturnOptions {
  readonly klHandling: KlHandling;
  /** Weight of the per-token KL penalty. */
  readonly klCoef: number;
  /** Discount; used by oneStep. */
  readonly gamma: number;
  /** The reward difference is clipped to ±this, after the subtraction; used by oneStep. */
  readonly clipRewardValue: number;
}

export interface Rollouts {
  /** Row-major [B, T]; only masked-in positions are read. */
  readonly logps: Float32Array | readonly number[];
  readonly refLogps: Float32Array | readonly number[];
  /** 1 on completion tokens, whose positions are contiguous in a row. */
  readonly mask: Float32Array | readonly number[];
  /** r(x, y) and r(x, ȳ) of the greedy completion: [B]. */
  readonly rewards: readonly number[];
  readonly baselineRewards: readonly number[];
}

/** G_t of every token, [B, T] (0 where masked): Li et al. 2023, arXiv:2310.10505, with the KL of the chosen handling. */
export function remaxReturns(
  { logps, refLogps, mask, rewards, baselineRewards }: Rollouts,
  options: ReturnOptions,
): Float32Array {
  const { klHandling, klCoef, gamma, clipRewardValue } = options;
  const B = rewards.length;
  const T = mask.length / B;
  if (!Number.isInteger(T) || baselineRewards.length !== B) {
    throw new AttuneError(
      "remax-shape",
      `remax: ${rewards.length} rewards and ${baselineRewards.length} baselines for ${mask.length} mask entries`,
    );
  }
  const returns = new Float32Array(B * T);
  for (let b = 0; b < B; b++) {
    const difference = rewards[b] - baselineRewards[b];
    const clipped = Math.min(Math.max(difference, -clipRewardValue), clipRewardValue);
    let toEnd = 0; // tokens from t to the end of the completion, t included
    let laterKl = 0; // Σ of the KL of this and all later tokens
    for (let i = (b + 1) * T - 1; i >= b * T; i--) {
      if (mask[i] === 0) continue;
      const kl = logps[i] - refLogps[i];
      toEnd++;
      laterKl += kl;
      switch (klHandling) {
        case "oneStep":
          returns[i] = -klCoef * kl + gamma ** toEnd * clipped;
          break;
        case "cumulative":
          returns[i] = -klCoef * laterKl + difference;
          break;
        case "none":
          returns[i] = difference;
          break;
        default:
          klHandling satisfies never;
      }
    }
  }
  return returns;
}
