/**
 * Losses as pure functions of log-probabilities, rewards and masks: no model, no data, no device. Sums over tokens and
 * rows are divided by a `normalizer` input, so that micro-batches add up.
 */
import type { Sym } from "../graph/sym.ts";
import { add, div, greater, mul, square, sub } from "../ops/binary.ts";
import { sumAll } from "../ops/reduce.ts";
import { exp, logSigmoid, neg } from "../ops/unary.ts";
import { stopGradient } from "../ops/stopGradient.ts";
import { maskedSum } from "./masked.ts";

/** −Σ log π(y_t) / N: cross-entropy over the completion tokens. logps, mask [B, T]. */
export const sftLoss = (logps: Sym, mask: Sym, normalizer: Sym): Sym => neg(maskedSum(logps, mask, normalizer));

/** −Σ sg(π(y_t)) · log π(y_t) / N: dynamic fine-tuning (Wu et al. 2025, arXiv:2508.05629). */
export const dftLoss = (logps: Sym, mask: Sym, normalizer: Sym): Sym =>
  neg(maskedSum(mul(stopGradient(exp(logps)), logps), mask, normalizer));

export interface RewardLoss {
  readonly loss: Sym;
  /** 1 where the chosen reward is strictly higher: [B]. */
  readonly accuracy: Sym;
  /** r_w − r_l: [B]. */
  readonly margin: Sym;
}

/**
 * Bradley-Terry: Σ −log σ(r_w − r_l − m) / B, plus c · Σ (r_w + r_l)² / B when centred (Eisenstein et al. 2023,
 * arXiv:2312.09244). Rewards and margin [B].
 */
export function rewardLoss(
  chosen: Sym,
  rejected: Sym,
  normalizer: Sym,
  { margin, centerCoefficient }: { margin?: Sym; centerCoefficient?: Sym } = {},
): RewardLoss {
  const gap = sub(chosen, rejected);
  const bradleyTerry = neg(sumAll(logSigmoid(margin === undefined ? gap : sub(gap, margin))));
  const total = centerCoefficient === undefined
    ? bradleyTerry
    : add(bradleyTerry, mul(sumAll(square(add(chosen, rejected))), centerCoefficient));
  return { loss: div(total, normalizer), accuracy: greater(chosen, rejected), margin: gap };
}

export interface PreferenceLogps {
  /** Σ_t log π(y_t | x) of the chosen and the rejected completion: [B] each. */
  readonly chosen: Sym;
  readonly rejected: Sym;
}

export interface DpoLoss {
  readonly loss: Sym;
  /** β (log π − log π_ref): the implicit rewards, [B]. */
  readonly chosenRewards: Sym;
  readonly rejectedRewards: Sym;
}

/**
 * DPO (Rafailov et al. 2023, arXiv:2305.18290, eq. 7): Σ −log σ(β [(log π_w − log ref_w) − (log π_l − log ref_l)]) / B.
 */
export function dpoLoss(policy: PreferenceLogps, reference: PreferenceLogps, beta: Sym, normalizer: Sym): DpoLoss {
  const chosenRewards = mul(sub(policy.chosen, reference.chosen), beta);
  const rejectedRewards = mul(sub(policy.rejected, reference.rejected), beta);
  const loss = neg(div(sumAll(logSigmoid(sub(chosenRewards, rejectedRewards))), normalizer));
  return { loss, chosenRewards, rejectedRewards };
}

/** −Σ G_t · log π(y_t) / N: the policy gradient of fixed returns. logps, returns, mask [B, T]. */
export const policyGradientLoss = (logps: Sym, returns: Sym, mask: Sym, normalizer: Sym): Sym =>
  neg(maskedSum(mul(returns, logps), mask, normalizer));
