import { describe, expect, it } from "vitest";
import { philox, Rng, uniformFromBits } from "../../src/core/rng.ts";

describe("philox", () => {
  // Known answers of the Random123 library for philox4x32-10 (kat_vectors).
  it("gives the known answers of Random123", () => {
    const f = 0xffffffff;
    expect(philox([0, 0, 0, 0], [0, 0])).toEqual([0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8]);
    expect(philox([f, f, f, f], [f, f])).toEqual([0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd]);
    expect(philox([0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344], [0xa4093822, 0x299f31d0]))
      .toEqual([0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1]);
  });
});

describe("uniformFromBits", () => {
  it("stays inside (0, 1)", () => {
    expect(uniformFromBits(0)).toBe(2 ** -24);
    expect(uniformFromBits(0xffffffff)).toBe(1 - 2 ** -24);
  });
});

describe("Rng", () => {
  const take = (rng: Rng, n: number): number[] => Array.from({ length: n }, () => rng.next());

  it("repeats itself", () => expect(take(new Rng(7, 3), 20)).toEqual(take(new Rng(7, 3), 20)));

  it("gives unlike numbers for unlike seeds and streams", () => {
    const sequences = [new Rng(1), new Rng(2), new Rng(1, 1)].map((rng) => take(rng, 8).join());
    expect(new Set(sequences).size).toBe(3);
  });

  // Means of n draws with standard deviation σ lie within 4 σ/√n with probability 0.99994; the seeds are fixed.
  it("draws uniform and normal numbers", () => {
    const n = 40_000;
    const rng = new Rng(11);
    const uniform = take(rng, n);
    const normal = Array.from({ length: n }, () => rng.normal());
    const mean = (xs: readonly number[]): number => xs.reduce((a, b) => a + b, 0) / xs.length;
    expect(Math.abs(mean(uniform) - 1 / 2)).toBeLessThan(4 * Math.sqrt(1 / 12 / n));
    expect(Math.abs(mean(uniform.map((x) => x * x)) - 1 / 3)).toBeLessThan(4 * Math.sqrt(4 / 45 / n));
    expect(Math.abs(mean(normal))).toBeLessThan(4 * Math.sqrt(1 / n));
    expect(Math.abs(mean(normal.map((x) => x * x)) - 1)).toBeLessThan(4 * Math.sqrt(2 / n));
  });

  it("reaches every integer below n, and each permutation of three about as often", () => {
    const rng = new Rng(5);
    expect(new Set(Array.from({ length: 200 }, () => rng.int(7)))).toEqual(new Set([0, 1, 2, 3, 4, 5, 6]));
    const counts = new Map<string, number>();
    for (let i = 0; i < 6000; i++) {
      const key = rng.shuffle(["a", "b", "c"]).join("");
      counts.set(key, (counts.get(key) ?? 0) + 1);
    }
    expect(counts.size).toBe(6);
    // Each count is binomial(6000, 1/6): 1000 ± 29.
    for (const count of counts.values()) expect(Math.abs(count - 1000)).toBeLessThan(4 * 29);
  });
});
