import { describe, expect, it } from "vitest";
import { Rng } from "../../src/core/rng.ts";
import {
  anyOf,
  entropy,
  enumerate,
  type Grammar,
  oneOf,
  probability,
  sampleWords,
} from "../../src/data/tasks/grammar.ts";
import {
  exchanges,
  promptEntropy,
  prompts,
  replyEntropy,
  replyLogProb,
  samplePrompt,
  sampleReply,
  sentences,
} from "../../src/data/tasks/world.ts";

const sum = (xs: readonly number[]) => xs.reduce((a, b) => a + b, 0);
const mean = (xs: readonly number[]) => sum(xs) / xs.length;
const standardError = (xs: readonly number[]) => {
  const m = mean(xs);
  return Math.sqrt(mean(xs.map((x) => (x - m) ** 2)) / xs.length);
};

describe("grammar", () => {
  // "a" 1/4, "b c" 3/4 · 1/2, "b d d" 3/4 · 1/2
  const grammar = oneOf([1, "a"], [3, ["b", anyOf("c", "d d"), ""]]);

  it("scores texts with the product of the choices", () => {
    expect(probability(grammar, ["a"])).toBe(0.25);
    expect(probability(grammar, ["b", "d", "d"])).toBe(0.375);
    expect(probability(grammar, ["b"])).toBe(0);
    expect(probability(grammar, ["b", "c", "c"])).toBe(0);
  });

  it("sums over derivations of an ambiguous text", () => {
    // "x x": the first slot empty and the second full, or the other way round
    const ambiguous: Grammar = [anyOf("", "x x"), oneOf([1, ""], [3, "x x"])];
    expect(probability(ambiguous, ["x", "x"])).toBe(0.5 * 0.75 + 0.5 * 0.25);
  });

  it("has the entropy of its enumeration", () => {
    // H(1/4, 3/4) + 3/4 ln 2
    const byHand = -0.25 * Math.log(0.25) - 0.75 * Math.log(0.75) + 0.75 * Math.log(2);
    expect(entropy(grammar)).toBeCloseTo(byHand, 12);
    expect(enumerate(grammar)).toEqual([["a", 0.25], ["b c", 0.375], ["b d d", 0.375]]);
  });

  it("samples in the right shares", () => {
    const rng = new Rng(3);
    const n = 20_000;
    const share = mean(Array.from({ length: n }, () => sampleWords(rng, grammar)[0] === "a" ? 1 : 0));
    expect(Math.abs(share - 0.25)).toBeLessThan(4 * Math.sqrt(0.25 * 0.75 / n)); // 4 standard errors
  });
});

describe("world", () => {
  const train = exchanges({ seed: 5, split: "train", count: 20_000 });

  const allSentences = Object.values(sentences).flatMap((body) => {
    const grammars = typeof body === "object" && "good" in body ? [body.good, body.bad] : [body];
    return grammars.map((grammar) => ({ grammar, texts: enumerate(grammar) }));
  });

  it("has no sentence with two derivations, so that its entropies are exact", () => {
    const texts = allSentences.flatMap(({ texts }) => texts.map(([text]) => text));
    expect(texts.length).toBeGreaterThan(500);
    expect(new Set(texts).size).toBe(texts.length);
    for (const { grammar, texts } of allSentences) {
      expect(sum(texts.map(([, p]) => p))).toBeCloseTo(1, 10);
      expect(-sum(texts.map(([, p]) => p * Math.log(p)))).toBeCloseTo(entropy(grammar), 10);
    }
  });

  it("gives all replies of one sentence together the chance to stop after one", () => {
    const texts = allSentences.flatMap(({ texts }) => texts.map(([text]) => text.replaceAll("{topic}", "lake")));
    for (const prompt of ["How was the lake?", "Do you like the old lake?"]) {
      expect(sum(texts.map((text) => Math.exp(replyLogProb(prompt, `${text}.`))))).toBeCloseTo(0.18, 10);
    }
  });

  it("gives the share of each two-sentence continuation that sums to one", () => {
    // P(text₂ | text₁) summed over all second sentences, each followed by stopping (0.33), times P(go on) = 0.82
    const texts = allSentences.flatMap(({ texts }) => texts.map(([text]) => text.replaceAll("{topic}", "lake")));
    const first = "I hate it a lot.";
    const alone = replyLogProb("How was the lake?", first) - Math.log(0.18);
    const pairs = texts.map((text) => Math.exp(replyLogProb("How was the lake?", `${first} ${text}.`) - alone));
    expect(sum(pairs)).toBeCloseTo(0.82 * 0.33, 10);
  });

  it("derives one reply by hand", () => {
    // Open question. "You can see few dogs there": see 20/100, few 2/8, dogs 1/6, there 4/10. Go on 0.82.
    // The sentence again: 0.08; stop after two: 0.33.
    const p = 0.2 * (2 / 8) * (1 / 6) * 0.4 * 0.82 * 0.08 * 0.33;
    const reply = "You can see few dogs there. You can see few dogs there.";
    expect(replyLogProb("Tell me about the new zoo.", reply)).toBeCloseTo(Math.log(p), 12);
    // A yes-or-no question leaves 0.4 for the kinds that do not answer.
    expect(replyLogProb("Should I go to the zoo?", reply)).toBeCloseTo(Math.log(0.4 * p), 12);
  });

  it("samples what it scores: the mean of −log P is the entropy", () => {
    // Per-prompt differences have mean 0; 4 standard errors allow one wrong alarm in 16,000 seeds.
    const gaps = train.map((row) => -replyLogProb(row.prompt, row.completion) - replyEntropy(row.prompt));
    expect(gaps.every(Number.isFinite)).toBe(true);
    expect(Math.abs(mean(gaps))).toBeLessThan(4 * standardError(gaps));
  });

  it("counts prompts with their entropy", () => {
    const distinct = new Set(train.map((row) => row.prompt)).size;
    expect(distinct).toBeGreaterThan(2000);
    // Hand count of −Σ p ln p: greeting (.6,.2,.2), question type (.6,.4), 4 or 3 templates, size, 24 places.
    const h = (...ps: number[]) => -sum(ps.map((p) => p * Math.log(p)));
    const byHand = h(.6, .2, .2) + h(.6, .4) + .6 * Math.log(4) + .4 * Math.log(3) + h(.5, .125, .125, .125, .125) +
      Math.log(24);
    expect(promptEntropy()).toBeCloseTo(byHand, 12);
  });

  it("refuses to score what it cannot write", () => {
    const prompt = "How was the hill?";
    for (
      const reply of [
        "",
        "I like it",
        "I like the lake.", // another place
        "I like it. I love it.", // one kind twice
        "Yes, of course.", // an answer where nothing was asked
        "I like it a lot lot.",
        "I like it. . It is calm.",
        "I like it. It is calm. I like it. It is calm. I like it.", // five sentences
      ]
    ) expect(replyLogProb(prompt, reply), reply).toBe(-Infinity);
  });

  it("asks for a known place", () => {
    expect(() => sampleReply(new Rng(1), "How was the moon?")).toThrow(/"How was the moon\?"/);
    expect(() => replyLogProb("Hello.", "I like it.")).toThrow(/expected a prompt about one of the places river/);
  });

  it("stays small: about 120 words, short replies", () => {
    const words = new Set(
      train.flatMap((row) => `${row.prompt} ${row.completion}`.toLowerCase().match(/[a-z]+/g) ?? []),
    );
    expect(words.size).toBeGreaterThan(100);
    expect(words.size).toBeLessThan(125);
    const lengths = train.map((row) => row.completion.split(" ").length);
    expect(Math.max(...lengths)).toBeLessThanOrEqual(40);
    expect(mean(lengths)).toBeGreaterThan(12);
    expect(mean(lengths)).toBeLessThan(15);
  });

  it("draws splits apart, and a longer draw continues a shorter one", () => {
    const draw = (split: "train" | "heldout", count: number) => exchanges({ seed: 5, split, count });
    expect(draw("train", 50)).toEqual(train.slice(0, 50));
    const seen = new Set(train.slice(0, 50).map((row) => row.completion));
    const again = draw("heldout", 50).filter((row) => seen.has(row.completion)).length;
    expect(again).toBeLessThan(10); // short replies coincide now and then
    expect(prompts({ seed: 5, split: "prompts", count: 3 })).not.toEqual(
      prompts({ seed: 6, split: "prompts", count: 3 }),
    );
    const rng = new Rng(5, 1);
    const prompt = samplePrompt(rng);
    expect(sampleReply(new Rng(9), prompt)).toBe(sampleReply(new Rng(9), prompt));
  });
});
