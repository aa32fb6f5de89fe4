import { describe, expect, it } from "vitest";
import { bucketFor, checkPromptLength, collate, collatePreferences } from "../../src/data/batch.ts";
import type { Tensor } from "../../src/core/shape.ts";

const options = { padTokenId: 99, maxLength: 64, vocabSize: 100, buckets: [4, 8, 16] };

const row = (tensor: Tensor, b: number): number[] => {
  const width = tensor.shape[1];
  return [...tensor.data.slice(b * width, (b + 1) * width)];
};

describe("collate", () => {
  it("shifts, pads and masks by position", () => {
    // Row 0: prompt 1 2, completion 3 9 (9 ends the text). Row 1: prompt 4, completion 5 6 7 9.
    const batch = collate([
      { promptIds: [1, 2], completionIds: [3, 9] },
      { promptIds: [4], completionIds: [5, 6, 7, 9] },
    ], options);
    expect(batch.tokens.shape).toEqual([2, 4]);
    expect(batch.targets.shape).toEqual([2, 4]);
    expect(batch.mask.shape).toEqual([2, 4]);
    expect(batch.lengths).toEqual({ shape: [2], data: Uint32Array.of(3, 4) });
    expect(row(batch.tokens, 0)).toEqual([1, 2, 3, 99]);
    expect(row(batch.targets, 0)).toEqual([2, 3, 9, 0]);
    expect(row(batch.mask, 0)).toEqual([0, 1, 1, 0]);
    expect(row(batch.tokens, 1)).toEqual([4, 5, 6, 7]);
    expect(row(batch.targets, 1)).toEqual([5, 6, 7, 9]);
    expect(row(batch.mask, 1)).toEqual([1, 1, 1, 1]);
  });

  it("keeps the end-of-text token in the loss when it is also the padding", () => {
    const rows = [{ promptIds: [9, 9], completionIds: [9, 5, 9] }];
    const same = collate(rows, { ...options, padTokenId: 9 });
    expect(row(same.mask, 0)).toEqual([0, 1, 1, 1]);
    const wider = collate([...rows, { promptIds: [1], completionIds: [2, 3, 4, 5, 6, 9] }], {
      ...options,
      padTokenId: 9,
    });
    expect(row(wider.mask, 0)).toEqual([0, 1, 1, 1, 0, 0, 0, 0]);
    expect(wider.lengths.data[0]).toBe(4);
  });

  it("takes the smallest bucket that holds the longest input", () => {
    const width = (length: number, maxLength = 64) =>
      collate([{ promptIds: [1], completionIds: Array(length - 1).fill(2) }], { ...options, maxLength }).tokens
        .shape[1];
    expect([2, 5, 6, 9, 10, 17].map((length) => width(length))).toEqual([4, 4, 8, 8, 16, 16]);
    expect(() => width(18)).toThrow(/at most 16 input tokens.*got 17/);
    // A context of 7 positions: never wider than that
    expect(width(7, 7)).toBe(7);
    expect(width(5, 7)).toBe(4);
    expect(bucketFor(65)).toBe(96);
  });

  it("keeps the start of a sequence that is too long", () => {
    const rows = [{ promptIds: [1, 2], completionIds: [3, 4, 5, 9] }];
    const batch = collate(rows, { ...options, maxLength: 4 });
    expect(row(batch.tokens, 0)).toEqual([1, 2, 3, 99]);
    expect(row(batch.targets, 0)).toEqual([2, 3, 4, 0]);
    expect(row(batch.mask, 0)).toEqual([0, 1, 1, 0]);
    expect(row(collate(rows, { ...options, maxLength: 3 }).mask, 0)).toEqual([0, 1, 0]);
  });

  it("leaves out the first token of a completion without a prompt", () => {
    const batch = collate([{ promptIds: [], completionIds: [3, 4, 9] }], options);
    expect(row(batch.targets, 0)).toEqual([4, 9, 0, 0]);
    expect(row(batch.mask, 0)).toEqual([1, 1, 0, 0]);
  });

  it("is the same for a row whatever its neighbours", () => {
    const a = { promptIds: [1, 2], completionIds: [3, 9] };
    const b = { promptIds: [5], completionIds: [6, 7, 8, 9, 10, 11] };
    const alone = collate([a], options);
    for (const [batch, at] of [[collate([a, b], options), 0], [collate([b, a], options), 1]] as const) {
      expect(row(batch.tokens, at).slice(0, 4)).toEqual(row(alone.tokens, 0));
      expect(row(batch.mask, at)).toEqual([...row(alone.mask, 0), 0, 0, 0, 0]);
    }
  });

  it("names what a row lacks", () => {
    const completionIds = [3];
    expect(() => collate([], options)).toThrow(/at least one row/);
    expect(() => collate([{ promptIds: [1], completionIds: [] }], options)).toThrow(
      /row 0: .* got 1 prompt and 0 completion/,
    );
    expect(() => collate([{ promptIds: [], completionIds }], options)).toThrow(/at least one token to predict/);
    const long = { promptIds: [1, 2, 3, 4], completionIds };
    expect(() => collate([{ promptIds: [1], completionIds }, long], { ...options, maxLength: 4 }))
      .toThrow(/row 1: expected a prompt shorter than the context of 4 tokens; got 4/);
    expect(() => checkPromptLength(65, 64)).toThrow(/^expected a prompt shorter than the context of 64 tokens; got 65/);
    for (const id of [100, -1, 1.5]) {
      expect(() => collate([{ promptIds: [1], completionIds: [id] }], options)).toThrow(
        /row 0: expected token ids from 0 to 99; got/,
      );
    }
  });
});

describe("collatePreferences", () => {
  it("puts all chosen rows before all rejected ones", () => {
    const batch = collatePreferences([
      { promptIds: [1], chosenIds: [2, 9], rejectedIds: [3, 9] },
      { promptIds: [4], chosenIds: [5, 9], rejectedIds: [6, 7, 9] },
    ], options);
    expect([0, 1, 2, 3].map((b) => row(batch.tokens, b).slice(0, 2))).toEqual([[1, 2], [4, 5], [1, 3], [4, 6]]);
    expect([...batch.lengths.data]).toEqual([2, 2, 2, 3]);
  });
});
