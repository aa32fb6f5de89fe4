import { describe, expect, it } from "vitest";
import { bestGold, goldMean, goldParts, goldReward, goldSd, unscaledGold } from "../../src/data/tasks/gold.ts";
import { labelPair, preferencePairs } from "../../src/data/tasks/preferences.ts";
import { exchanges } from "../../src/data/tasks/world.ts";
import { Rng } from "../../src/core/rng.ts";

const mean = (xs: readonly number[]) => xs.reduce((a, b) => a + b, 0) / xs.length;
const sd = (xs: readonly number[]) => {
  const m = mean(xs);
  return Math.sqrt(mean(xs.map((x) => (x - m) ** 2)));
};

const prompt = "Hi. How was the old bridge?";

describe("gold reward", () => {
  it("reads each attribute", () => {
    // 12 words of 20. Good: calm, love; bad: none. Polite: please. No repetition.
    expect(goldParts(prompt, "The bridge is so calm. I love it. Please go there early.")).toEqual({
      keyword: 1,
      politeness: 0.5,
      sentiment: 1,
      length: 12 / 20,
      repetition: 0,
    });
    // "do not like" is bad, not good. Rude: do not ask. "very very" and the three runs repeated: past the worst.
    expect(goldParts(prompt, "I do not like it. I do not like it. It is very very dull. Do not ask me.")).toEqual({
      keyword: 0,
      politeness: -0.5,
      sentiment: -1,
      length: 19 / 20,
      repetition: 1,
    });
    // "very very": one doubled word of four
    expect(goldParts(prompt, "It is very very calm.").repetition).toBe(0.25);
  });

  it("saturates, so that piling up words earns nothing", () => {
    const polite = goldParts(prompt, "Thank you for asking. Sorry, I do not know more. You are welcome. Please ask.");
    expect(polite.politeness).toBe(1);
    expect(goldParts(prompt, "nice great calm bright lovely").sentiment).toBe(1);
    expect(goldParts(prompt, "nice nice nice").sentiment).toBe(0.5);
    expect(goldParts(prompt, "bridge ".repeat(60))).toMatchObject({ keyword: 1, length: 1, repetition: 1 });
  });

  it("reads text that no grammar would write", () => {
    const empty = { keyword: 0, politeness: 0, sentiment: 0, length: 0, repetition: 0 };
    for (const reply of ["", "   ", "...", "<|pad|>\u0000\ufffd".replace("pad", "?")]) {
      expect(goldParts(prompt, reply)).toEqual(empty);
    }
    expect(goldParts("?", "The bridge").keyword).toBe(0);
    expect(goldParts(prompt, "BRIDGE!!!bridges").keyword).toBe(1);
    expect(goldParts(prompt, "bridges").keyword).toBe(0);
    expect(goldParts(prompt, "éblouissant 日本語 7").length).toBe(3 / 20);
  });

  it("has mean 0 and sd 1 over the generator's replies, and room above", () => {
    const rows = [1, 2, 3, 4].flatMap((seed) => exchanges({ seed, split: "train", count: 25_000 }));
    const sums = rows.map((row) => unscaledGold(goldParts(row.prompt, row.completion)));
    // Standard errors of mean and sd over 100,000 rows: 0.003 and 0.002; the constants have three digits.
    expect(Math.abs(mean(sums) - goldMean)).toBeLessThan(0.012);
    expect(Math.abs(sd(sums) - goldSd)).toBeLessThan(0.01);
    expect(bestGold()).toBeGreaterThan(3);
  });

  it("is best for a reply that the generator can write", () => {
    const reply = "The bridge is very lovely. I enjoy it so much. Please go there in spring. Thank you for asking.";
    expect(goldReward(prompt, reply)).toBeCloseTo((4 - 1 / 20 - goldMean) / goldSd, 12); // 19 words of 20
  });
});

describe("preferences", () => {
  const pair = {
    prompt,
    first: "I love the bridge. The bridge is so calm.",
    second: "I do not care.",
  };
  const share = (options: { temperature?: number; flip?: number }) => {
    const rng = new Rng(11);
    return mean(Array.from({ length: 20_000 }, () => labelPair(rng, pair, options).chosen === pair.first ? 1 : 0));
  };
  const difference = goldReward(prompt, pair.first) - goldReward(prompt, pair.second);
  const tolerance = 4 * Math.sqrt(0.25 / 20_000); // 4 standard errors of a share, at most

  it("chooses with the Bradley-Terry probability", () => {
    expect(difference).toBeGreaterThan(1);
    for (const temperature of [1, 5]) {
      const p = 1 / (1 + Math.exp(-difference / temperature));
      expect(Math.abs(share({ temperature }) - p)).toBeLessThan(tolerance);
    }
    expect(share({ temperature: 1e-9 })).toBe(1);
  });

  it("flips the share of labels that it is told to", () => {
    const p = 1 / (1 + Math.exp(-difference));
    expect(Math.abs(share({ flip: 0.25 }) - (0.75 * p + 0.25 * (1 - p)))).toBeLessThan(tolerance);
    expect(share({ temperature: 1e-9, flip: 1 })).toBe(0);
  });

  it("draws pairs of different replies that agree with gold more often than not", () => {
    const rows = preferencePairs({ seed: 2, split: "pairs", count: 4000 });
    expect(rows.every((row) => row.chosen !== row.rejected)).toBe(true);
    const gaps = rows.map((row) => goldReward(row.prompt, row.chosen) - goldReward(row.prompt, row.rejected));
    const agree = mean(gaps.map((gap) => gap > 0 ? 1 : gap < 0 ? 0 : 0.5));
    // Bradley-Terry's own expectation of agreement on these pairs
    const expected = mean(gaps.map((gap) => 1 / (1 + Math.exp(-Math.abs(gap)))));
    expect(Math.abs(agree - expected)).toBeLessThan(4 * Math.sqrt(0.25 / 4000));
    expect(preferencePairs({ seed: 2, split: "pairs", count: 5 })).toEqual(rows.slice(0, 5));
  });

  it("refuses senseless options", () => {
    const draw = { seed: 1, split: "pairs", count: 1 } as const;
    expect(() => preferencePairs(draw, { temperature: 0 })).toThrow(/temperature above 0.*got temperature 0/);
    expect(() => preferencePairs(draw, { flip: 1.5 })).toThrow(/flip 1.5/);
    expect(() => preferencePairs(draw, { flip: NaN })).toThrow(/flip NaN/);
  });
});
