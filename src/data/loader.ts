/** Which rows come next: seeded epochs over a data set. (seed, step) alone decides, so a resumed run needs no cursor. */
import { AttuneError } from "../core/errors.ts";
import { Rng } from "../core/rng.ts";

export interface StepBatchOptions {
  /** Rows in the data set. */
  readonly count: number;
  readonly batchSize: number;
  readonly seed: number;
  /**
   * Length of each row. When given, rows of similar length share a batch (transformers' group_by_length): within every
   * {@link groupedBatches} batches of the shuffled epoch rows are sorted by it, and the batches are shuffled again.
   */
  readonly lengths?: readonly number[];
}

/** Batches among which rows are exchanged to make their lengths similar. */
const groupedBatches = 50;

const stream = 0x65_00_00_00; // plus the epoch: every epoch's order has its own random stream

/**
 * The row numbers of training step `t`, counted from 0 and without end: every epoch is a new order of all rows. Rows that
 * do not fill a last batch are dropped in that epoch, so every batch has the same size and weight.
 *
 * @throws AttuneError `data-too-few` when there are fewer rows than a batch takes, `batch-size`
 */
export function stepBatches({ count, batchSize, seed, lengths }: StepBatchOptions): (t: number) => number[] {
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
      const rng = new Rng(seed, stream + epoch);
      const order = rng.shuffle(Array.from({ length: count }, (_, i) => i));
      known = { epoch, order: lengths === undefined ? order : groupByLength(order, lengths, batchSize, rng) };
    }
    const start = (t % batches) * batchSize;
    return known.order.slice(start, start + batchSize);
  };
}

/** The rows of whole batches, those of similar length together. */
function groupByLength(order: readonly number[], lengths: readonly number[], batchSize: number, rng: Rng): number[] {
  const batches: number[][] = [];
  const whole = order.length - order.length % batchSize;
  for (let start = 0; start < whole; start += groupedBatches * batchSize) {
    const group = order.slice(start, Math.min(whole, start + groupedBatches * batchSize));
    group.sort((a, b) => lengths[a] - lengths[b] || a - b);
    for (let i = 0; i < group.length; i += batchSize) batches.push(group.slice(i, i + batchSize));
  }
  return rng.shuffle(batches).flat();
}

function checkBatchSize(batchSize: number): void {
  if (Number.isSafeInteger(batchSize) && batchSize > 0) return;
  throw new AttuneError("batch-size", `expected a batch size of at least 1; got ${batchSize}`);
}
