/**
 * Preference pairs of the synthetic world, labelled by the gold reward through a Bradley-Terry coin.
 *
 * Only the labels carry the gold reward further: training sees rows, as it would see those of people.
 */
import { AttuneError } from "../../core/errors.ts";
import type { Rng } from "../../core/rng.ts";
import type { PreferenceRow } from "../rows.ts";
import { goldReward } from "./gold.ts";
import { type Draw, samplePrompt, sampleReply, worldRng } from "./world.ts";

export interface LabelOptions {
  /** Divides the reward difference: near 0 the better reply always wins, large makes a fair coin. 1 by default. */
  readonly temperature?: number;
  /** Chance that a label is turned round afterwards, in [0, 1]: 0.25 is the noise of the ensemble studies. 0 by default. */
  readonly flip?: number;
}

/** Pairs of different replies, drawn from the generator, to prompts of a split. @throws AttuneError `preference-options` */
export function preferencePairs(draw: Draw, options: LabelOptions = {}): PreferenceRow[] {
  const rng = worldRng(draw);
  return Array.from({ length: draw.count }, () => {
    const prompt = samplePrompt(rng);
    const first = sampleReply(rng, prompt);
    let second = first;
    while (second === first) second = sampleReply(rng, prompt);
    return labelPair(rng, { prompt, first, second }, options);
  });
}

/**
 * Labels two replies: P(first is chosen) = σ((gold(first) − gold(second)) / temperature), then flipped with chance `flip`.
 *
 * @throws AttuneError `preference-options`
 */
export function labelPair(
  rng: Rng,
  { prompt, first, second }: { prompt: string; first: string; second: string },
  { temperature = 1, flip = 0 }: LabelOptions = {},
): PreferenceRow {
  if (!(temperature > 0) || !(flip >= 0 && flip <= 1)) {
    throw new AttuneError(
      "preference-options",
      `expected a temperature above 0 and a flip chance in [0, 1]; got temperature ${temperature}, flip ${flip}`,
    );
  }
  const difference = goldReward(prompt, first) - goldReward(prompt, second);
  const firstWins = rng.next() < 1 / (1 + Math.exp(-difference / temperature));
  const flipped = rng.next() < flip;
  return firstWins !== flipped
    ? { prompt, chosen: first, rejected: second }
    : { prompt, chosen: second, rejected: first };
}
