/**
 * Finite weighted grammars over words: what a sentence may be, with exact probabilities.
 *
 * A grammar without recursion generates finitely many strings, so that sampling, scoring and entropy are each one
 * short walk. The slot `{topic}` stands for a word that the caller fills in.
 */
import type { Rng } from "../../core/rng.ts";

/** A text of words separated by spaces (`""` is none), a sequence, or a weighted choice. */
export type Grammar = string | readonly Grammar[] | Choice;

export interface Choice {
  /** Probabilities, which add up to 1, each with its body. */
  readonly options: readonly (readonly [probability: number, body: Grammar])[];
}

/** A choice whose weights are scaled to add up to 1. */
export function oneOf(...weighted: readonly (readonly [weight: number, body: Grammar])[]): Choice {
  const total = weighted.reduce((sum, [weight]) => sum + weight, 0);
  return { options: weighted.map(([weight, body]) => [weight / total, body] as const) };
}

/** A choice of equally likely bodies. */
export const anyOf = (...bodies: readonly Grammar[]): Choice => oneOf(...bodies.map((body) => [1, body] as const));

/** Draws the words of one derivation. */
export function sampleWords(rng: Rng, grammar: Grammar): string[] {
  if (typeof grammar === "string") return wordsOf(grammar);
  if (isSequence(grammar)) return grammar.flatMap((part) => sampleWords(rng, part));
  return sampleWords(rng, drawWeighted(rng, grammar.options));
}

/** Draws one value of a list of probabilities (which add up to 1) and values. */
export function drawWeighted<T>(rng: Rng, options: readonly (readonly [probability: number, value: T])[]): T {
  let left = rng.next();
  for (const [probability, value] of options) {
    left -= probability;
    if (left < 0) return value;
  }
  return options[options.length - 1][1]; // rounding may leave the sum a hair under the draw
}

/** The probability that the grammar generates exactly these words, summed over all derivations. */
export function probability(grammar: Grammar, words: readonly string[]): number {
  return endings(grammar, words, 0).get(words.length) ?? 0;
}

/** The inside probabilities: for each end position, the probability of generating `words[start..end)`. */
function endings(grammar: Grammar, words: readonly string[], start: number): Map<number, number> {
  if (typeof grammar === "string") {
    const own = wordsOf(grammar);
    const fits = own.every((word, i) => words[start + i] === word);
    return new Map(fits ? [[start + own.length, 1]] : []);
  }
  const out = new Map<number, number>();
  const add = (end: number, p: number) => out.set(end, (out.get(end) ?? 0) + p);
  if (isSequence(grammar)) {
    let front = new Map([[start, 1]]);
    for (const part of grammar) {
      const next = new Map<number, number>();
      for (const [at, p] of front) {
        for (const [end, q] of endings(part, words, at)) next.set(end, (next.get(end) ?? 0) + p * q);
      }
      front = next;
    }
    return front;
  }
  for (const [p, body] of grammar.options) {
    for (const [end, q] of endings(body, words, start)) add(end, p * q);
  }
  return out;
}

/**
 * The entropy of a derivation, in nats. For an unambiguous grammar (no text has two derivations) it is the entropy of
 * the text.
 */
export function entropy(grammar: Grammar): number {
  if (typeof grammar === "string") return 0;
  if (isSequence(grammar)) return grammar.reduce((sum, part) => sum + entropy(part), 0);
  return grammar.options.reduce((sum, [p, body]) => sum + p * (entropy(body) - Math.log(p)), 0);
}

/** Every derivation's text with its probability; a text with two derivations appears twice. */
export function enumerate(grammar: Grammar): [text: string, probability: number][] {
  if (typeof grammar === "string") return [[grammar, 1]];
  if (isSequence(grammar)) {
    return grammar.reduce<[string, number][]>(
      (heads, part) =>
        heads.flatMap(([head, p]) =>
          enumerate(part).map(([tail, q]): [string, number] => [[head, tail].filter(Boolean).join(" "), p * q])
        ),
      [["", 1]],
    );
  }
  return grammar.options.flatMap(([p, body]) => enumerate(body).map(([text, q]): [string, number] => [text, p * q]));
}

const wordsOf = (text: string): string[] => text === "" ? [] : text.split(" ");

const isSequence = (grammar: Grammar): grammar is readonly Grammar[] => Array.isArray(grammar);
