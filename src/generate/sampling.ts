/** How tokens are drawn. Names and meanings as in Hugging Face's generation configuration. */
import { AttuneError } from "../core/errors.ts";

export interface Sampling {
  /** 0 is greedy. */
  readonly temperature: number;
  /** Keep the k most likely tokens; 0 keeps all. */
  readonly topK: number;
  /** Keep the smallest set with at least this probability; 1 keeps all. */
  readonly topP: number;
  /** Keep tokens with at least this fraction of the most likely one's probability; 0 keeps all. */
  readonly minP: number;
  /** Divides the logits (multiplies negative ones) of tokens that the row holds already; 1 is off. */
  readonly repetitionPenalty: number;
}

export const DEFAULT_SAMPLING: Sampling = { temperature: 1, topK: 0, topP: 1, minP: 0, repetitionPenalty: 1 };

export const GREEDY: Sampling = { ...DEFAULT_SAMPLING, temperature: 0 };

const BOUNDS: Readonly<Record<keyof Sampling, { valid(x: number): boolean; words: string }>> = {
  temperature: { valid: (x) => x >= 0 && x <= 100, words: "between 0 (greedy) and 100" },
  topK: { valid: (x) => Number.isInteger(x) && x >= 0, words: "a whole number, 0 for off" },
  topP: { valid: (x) => x > 0 && x <= 1, words: "above 0, at most 1 (off)" },
  minP: { valid: (x) => x >= 0 && x <= 1, words: "between 0 (off) and 1" },
  repetitionPenalty: { valid: (x) => x > 0 && x <= 100, words: "above 0; 1 is off" },
};

/** Fills in defaults and refuses what no distribution has. Errors: `sampling`. */
export function checkSampling(options: Partial<Sampling> = {}): Sampling {
  const sampling = { ...DEFAULT_SAMPLING, ...options };
  for (const [name, { valid, words }] of Object.entries(BOUNDS) as [keyof Sampling, typeof BOUNDS[keyof Sampling]][]) {
    if (!valid(sampling[name])) throw new AttuneError("sampling", `${name} is ${words}, got ${sampling[name]}`);
  }
  return sampling;
}
