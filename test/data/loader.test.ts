import { describe, expect, it } from "vitest";
import { epochSampler, evaluationBatches } from "../../src/data/loader.ts";

const take = (sampler: { next(): number[] }, n: number) => Array.from({ length: n }, () => sampler.next());

describe("epochSampler", () => {
  it("visits different rows within an epoch, in another order each epoch", () => {
    const sampler = epochSampler({ count: 10, batchSize: 3, seed: 1 });
    const epochs = [take(sampler, 3), take(sampler, 3)].map((batches) => batches.flat());
    for (const rows of epochs) {
      expect(new Set(rows).size).toBe(9); // the tenth row is dropped in this epoch
      expect(rows.every((row) => row >= 0 && row < 10)).toBe(true);
    }
    expect(epochs[0]).not.toEqual(epochs[1]);
    const many = take(epochSampler({ count: 10, batchSize: 3, seed: 1 }), 60).flat();
    expect(new Set(many).size).toBe(10);
  });

  it("depends on the seed alone", () => {
    const order = (seed: number) => take(epochSampler({ count: 50, batchSize: 5, seed }), 20);
    expect(order(3)).toEqual(order(3));
    expect(order(3)).not.toEqual(order(4));
  });

  it("continues from any saved cursor as if never stopped", () => {
    const options = { count: 11, batchSize: 2, seed: 8 };
    const whole = take(epochSampler(options), 14);
    for (let stop = 0; stop < 14; stop++) {
      const first = epochSampler(options);
      take(first, stop);
      const second = epochSampler(options);
      second.seek(JSON.parse(JSON.stringify(first.cursor)));
      expect(second.cursor).toEqual(first.cursor);
      expect(take(second, 14 - stop)).toEqual(whole.slice(stop));
    }
  });

  it("refuses too few rows, a batch size of nothing and a cursor from elsewhere", () => {
    expect(() => epochSampler({ count: 3, batchSize: 4, seed: 1 })).toThrow(/one batch of 4 rows; got 3/);
    expect(() => epochSampler({ count: 3, batchSize: 0, seed: 1 })).toThrow(/batch size of at least 1; got 0/);
    const sampler = epochSampler({ count: 10, batchSize: 3, seed: 1 });
    for (
      const cursor of [{ epoch: 0, index: 2 }, { epoch: 0, index: 12 }, { epoch: -1, index: 0 }, {
        epoch: 0.5,
        index: 0,
      }]
    ) {
      expect(() => sampler.seek(cursor)).toThrow(/3 batches of 3 rows; got epoch/);
    }
    expect(sampler.cursor).toEqual({ epoch: 0, index: 0 });
  });
});

describe("evaluationBatches", () => {
  it("gives every row once, in order, the last batch short", () => {
    expect([...evaluationBatches(5, 2)]).toEqual([[0, 1], [2, 3], [4]]);
    expect([...evaluationBatches(4, 2)]).toEqual([[0, 1], [2, 3]]);
    expect([...evaluationBatches(0, 2)]).toEqual([]);
  });
});
