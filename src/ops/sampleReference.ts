/**
 * What the sampler computes, one row at a time in float64: the filtered distribution in the order of Hugging Face's
 * generation (repetition penalty, temperature, top-k, top-p, min-p), and the draw from it.
 */
import { philox } from "../core/rng.ts";

/** One row's settings; the second value of each is off. */
export interface RowSettings {
  /** 0 is greedy: all probability on the largest logit, the lowest token among equals, whatever the filters say. */
  readonly temperature: number;
  /** Keeps the k largest logits, and those equal to the k-th; 0. */
  readonly topK: number;
  /** Keeps the smallest set of most likely tokens with at least this probability, and tokens as likely as its last; 1. */
  readonly topP: number;
  /** Keeps tokens with at least this fraction of the largest probability; 0. */
  readonly minP: number;
  /** Divides positive and multiplies negative logits of seen tokens; 1. */
  readonly repetitionPenalty: number;
}

export const FILTERS_OFF: RowSettings = { temperature: 1, topK: 0, topP: 1, minP: 0, repetitionPenalty: 1 };

/** Separates the sampler's draws from other uses of a seed: the second word of Philox's key. */
export const SAMPLING_STREAM = 0x73616d70;

/** Which numbers fix a row's noise. */
export interface DrawKey {
  readonly seed: number;
  readonly row: number;
  readonly position: number;
}

type Seen = (token: number) => boolean;

const indexOfMax = (xs: ArrayLike<number>): number => {
  let best = 0;
  for (let i = 1; i < xs.length; i++) if (xs[i] > xs[best]) best = i;
  return best;
};

const penalised = (logits: ArrayLike<number>, penalty: number, seen: Seen): Float64Array =>
  Float64Array.from(logits, (x, v) => penalty === 1 || !seen(v) ? x : x < 0 ? x * penalty : x / penalty);

/** Unnormalised probabilities of the tokens that the filters keep, 0 for the others; the largest is 1. */
function keptWeights(y: Float64Array, { temperature, topK, topP, minP }: RowSettings): Float64Array {
  const top = y[indexOfMax(y)];
  const weights = y.map((v) => Math.exp((v - top) / temperature));
  const order = [...y.keys()].sort((a, b) => y[b] - y[a]);
  let low = topK > 0 && topK < y.length ? y[order[topK - 1]] : -Infinity;
  if (topP < 1) {
    const kept = order.filter((v) => y[v] >= low);
    const wanted = topP * kept.reduce((sum, v) => sum + weights[v], 0);
    let above = weights[kept[0]];
    let last = 0;
    while (above < wanted && last + 1 < kept.length) above += weights[kept[++last]];
    low = y[kept[last]];
  }
  return weights.map((w, v) => y[v] >= low && w >= Math.min(minP, 1) ? w : 0);
}

/** The distribution that a row is drawn from: [V] probabilities. */
export function filteredProbabilities(
  logits: ArrayLike<number>,
  settings: RowSettings,
  seen: Seen = () => false,
): Float64Array {
  const y = penalised(logits, settings.repetitionPenalty, seen);
  if (settings.temperature === 0) {
    const best = indexOfMax(y);
    return y.map((_, v) => v === best ? 1 : 0);
  }
  const weights = keptWeights(y, settings);
  const total = weights.reduce((a, b) => a + b, 0);
  return weights.map((w) => w / total);
}

/** −log(−log(1 − u)) with the u that 32 random bits stand for; it keeps 24 significant bits, so small ones are fine. */
function gumbel(bits: number): number {
  const u = ((bits >= 0x1000000 ? (bits & 0xffffff00) >>> 0 : bits) + 0.5) * 2 ** -32;
  return -Math.log(-Math.log1p(-u));
}

/** Scores whose largest is drawn (Gumbel-max): log-probability up to a constant, plus noise; -Infinity where filtered. */
export function drawScores(
  logits: ArrayLike<number>,
  settings: RowSettings,
  key: DrawKey,
  seen: Seen = () => false,
): Float64Array {
  const y = penalised(logits, settings.repetitionPenalty, seen);
  if (settings.temperature === 0) return y;
  const weights = keptWeights(y, settings);
  let noise: readonly number[] = [];
  return weights.map((w, v) => {
    if (v % 4 === 0) noise = philox([v / 4, key.position, key.row, 0], [key.seed, SAMPLING_STREAM]);
    return w === 0 ? -Infinity : Math.log(w) + gumbel(noise[v % 4]);
  });
}

/** One draw: the token, its log-probability under the softmax of the raw logits, and under the filtered distribution. */
export function drawToken(logits: ArrayLike<number>, settings: RowSettings, key: DrawKey, seen: Seen = () => false) {
  const token = indexOfMax(drawScores(logits, settings, key, seen));
  const raw = filteredProbabilities(logits, FILTERS_OFF);
  return {
    token,
    logp: Math.log(raw[token]),
    sampledLogp: Math.log(filteredProbabilities(logits, settings, seen)[token]),
  };
}
