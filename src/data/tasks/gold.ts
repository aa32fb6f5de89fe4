/**
 * The gold reward of the synthetic world: a program over the attributes of a reply's text.
 *
 * It stands for what people really want, so only the labelling of preferences and the evaluation may import it, never
 * training code. It reads any text, also what no grammar would write.
 */
import { adjectives, politeFragments, rudeFragments, verbs } from "./words.ts";
import { topicOf } from "./world.ts";

/** The attributes of one reply. */
export interface GoldParts {
  /** 1 when the reply names the place that the prompt asks about, else 0. */
  readonly keyword: number;
  /** Different polite fragments less different rude ones, halved, in [−1, 1]. */
  readonly politeness: number;
  /** Different good words less different bad ones, halved, in [−1, 1]. */
  readonly sentiment: number;
  /** Words over {@link lengthGoal}, at most 1. */
  readonly length: number;
  /** Doubled words and repeated runs of three words, four of which make the worst, 1. */
  readonly repetition: number;
}

/** L*: more words than this earn nothing. */
export const lengthGoal = 20;

/** Mean and standard deviation of the unscaled sum over the generator's own replies; a test measures them again. */
export const goldMean = 1.053;
export const goldSd = 0.945;

/** Every attribute of `reply`, the answer to `prompt`. */
export function goldParts(prompt: string, reply: string): GoldParts {
  const words: string[] = reply.toLowerCase().match(/[\p{L}\p{N}']+/gu) ?? [];
  const topic = topicOf(prompt);
  return {
    keyword: topic !== undefined && words.includes(topic) ? 1 : 0,
    politeness: politeness(words),
    sentiment: sentiment(words),
    length: Math.min(1, words.length / lengthGoal),
    repetition: repetition(words),
  };
}

/** keyword + politeness + sentiment + length − repetition, scaled to mean 0 and sd 1 over the generator's replies. */
export const goldReward = (prompt: string, reply: string): number =>
  (unscaledGold(goldParts(prompt, reply)) - goldMean) / goldSd;

/** The plain sum of the parts, before scaling; it lies in [−3, 4]. */
export const unscaledGold = (parts: GoldParts): number =>
  parts.keyword + parts.politeness + parts.sentiment + parts.length - parts.repetition;

/** The reward of a reply with every attribute at its best. */
export const bestGold = (): number => (4 - goldMean) / goldSd;

function politeness(words: readonly string[]): number {
  const polite = politeFragments.filter((fragment) => contains(words, fragment)).length;
  const rude = rudeFragments.filter((fragment) => contains(words, fragment)).length;
  return clamp((polite - rude) / 2);
}

function sentiment(words: readonly string[]): number {
  // "do not like" must not count as "like"
  const plain = words.filter((word, i) => !(word === "like" && words[i - 1] === "not"));
  const count = (list: readonly string[], where: readonly string[]) => list.filter((w) => contains(where, w)).length;
  const good = count(adjectives.good, words) + count(verbs.good, plain);
  const bad = count(adjectives.bad, words) + count(verbs.bad, words);
  return clamp((good - bad) / 2);
}

function repetition(words: readonly string[]): number {
  const doubled = words.filter((word, i) => word === words[i - 1]).length;
  const runs = words.slice(2).map((word, i) => `${words[i]} ${words[i + 1]} ${word}`);
  return Math.min(1, (doubled + runs.length - new Set(runs).size) / 4);
}

const contains = (words: readonly string[], fragment: string): boolean =>
  ` ${words.join(" ")} `.includes(` ${fragment} `);

const clamp = (x: number): number => Math.max(-1, Math.min(1, x));
