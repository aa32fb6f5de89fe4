/** Which rows come next: seeded epochs over a data set. (seed, step) alone decides, so a resumed run needs no cursor. */
import { AttuneError } from "../core/errors.ts";
import { Rng } from "../core/rng.ts";

export interface StepBatchOptions {
  /** Rows in the data set. */
  readonly count: number;
  readonly batchSize: number;
  readonly seed: number;
}

const stream = 0x65_00_00_00; // plus the epoch: every epoch's order has its own random stream

/**
 * The row numbers of training step `t`, counted from 0 and without end: every epoch is a new order of all rows. Rows that
 * do not fill a last batch are dropped in that epoch, so every batch has the same size and weight.
 *
 * @throws AttuneError `data-too-few` when there are fewer rows than a batch takes, `batch-size`
 */
export function stepBatches({ count, batchSize, seed }: StepBatchOptions): (t: number) => number[] {
  checkBatchSize(batchSize);
  if (count < batchSize) {
    throw new AttuneError(
      "data-too-few",
      `expected at least one batch of ${batchSize} rows; got ${count}. Add rows, or lower the batch size`,
    );
  }
  const batches = Math.floor(count / batchSize);
  let known: { epoch: number; order: number[] } | undefined;
  return (t) => {
    const epoch = Math.floor(t / batches);
    if (known?.epoch !== epoch) {
      known = { epoch, order: new Rng(seed, stream + epoch).shuffle(Array.from({ length: count }, (_, i) => i)) };
    }
    const start = (t % batches) * batchSize;
    return known.order.slice(start, start + batchSize);
  };
}

/** Batches for evaluation: every row once, in its own order; the last batch may be short. */
export function* evaluationBatches(count: number, batchSize: number): Generator<number[]> {
  checkBatchSize(batchSize);
  for (let start = 0; start < count; start += batchSize) {
    yield Array.from({ length: Math.min(batchSize, count - start) }, (_, i) => start + i);
  }
}

function checkBatchSize(batchSize: number): void {
  if (Number.isSafeInteger(batchSize) && batchSize > 0) return;
  throw new AttuneError("batch-size", `expected a batch size of at least 1; got ${batchSize}`);
}
