/** Which rows come next: seeded epochs over a data set, with a position that is saved and restored with a run. */
import { AttuneError } from "../core/errors.ts";
import { Rng } from "../core/rng.ts";

/** The next row to hand out: `index` counts within the epoch's order. Plain data, saved with a checkpoint. */
export interface DataCursor {
  readonly epoch: number;
  readonly index: number;
}

/** Hands out batches of row numbers without end. */
export interface EpochSampler {
  /** The next `batchSize` row numbers. */
  next(): number[];
  /** Where {@link next} stands. */
  readonly cursor: DataCursor;
  /** Continues at a saved cursor. @throws AttuneError `data-cursor` for one that these data cannot have had */
  seek(cursor: DataCursor): void;
}

export interface SamplerOptions {
  /** Rows in the data set. */
  readonly count: number;
  readonly batchSize: number;
  readonly seed: number;
}

const stream = 0x65_00_00_00; // plus the epoch: every epoch's order has its own random stream

/**
 * Batches for training: every epoch is a new order of all rows, which (seed, epoch) alone decides. Rows that do not fill
 * a last batch are dropped in that epoch, so every batch has the same size and weight.
 *
 * @throws AttuneError `data-too-few` when there are fewer rows than a batch takes
 */
export function epochSampler({ count, batchSize, seed }: SamplerOptions): EpochSampler {
  checkBatchSize(batchSize);
  if (count < batchSize) {
    throw new AttuneError(
      "data-too-few",
      `expected at least one batch of ${batchSize} rows; got ${count}. Add rows, or lower the batch size`,
    );
  }
  const batches = Math.floor(count / batchSize);
  let [epoch, index] = [0, 0];
  let order = epochOrder(count, seed, epoch);
  return {
    next() {
      if (index === batches * batchSize) {
        [epoch, index] = [epoch + 1, 0];
        order = epochOrder(count, seed, epoch);
      }
      index += batchSize;
      return order.slice(index - batchSize, index);
    },
    get cursor() {
      return { epoch, index };
    },
    seek(cursor) {
      const fits = isCount(cursor.epoch) && isCount(cursor.index) && cursor.index % batchSize === 0 &&
        cursor.index <= batches * batchSize;
      if (!fits) {
        throw new AttuneError(
          "data-cursor",
          `expected a position in ${batches} batches of ${batchSize} rows; got epoch ${cursor.epoch}, index ` +
            `${cursor.index}. Were the data or the batch size changed?`,
        );
      }
      ({ epoch, index } = cursor);
      order = epochOrder(count, seed, epoch);
    },
  };
}

/** Batches for evaluation: every row once, in its own order; the last batch may be short. */
export function* evaluationBatches(count: number, batchSize: number): Generator<number[]> {
  checkBatchSize(batchSize);
  for (let start = 0; start < count; start += batchSize) {
    yield Array.from({ length: Math.min(batchSize, count - start) }, (_, i) => start + i);
  }
}

const epochOrder = (count: number, seed: number, epoch: number): number[] =>
  new Rng(seed, stream + epoch).shuffle(Array.from({ length: count }, (_, i) => i));

function checkBatchSize(batchSize: number): void {
  if (isCount(batchSize) && batchSize > 0) return;
  throw new AttuneError("batch-size", `expected a batch size of at least 1; got ${batchSize}`);
}

const isCount = (n: number): boolean => Number.isSafeInteger(n) && n >= 0;

/**
 * The row numbers of every step: (seed, step) alone decides them, so a resumed run needs no position but its step.
 * Epochs and dropped rows as in {@link epochSampler}.
 */
export function stepBatches({ count, batchSize, seed }: SamplerOptions): (step: number) => number[] {
  const sampler = epochSampler({ count, batchSize, seed });
  const batches = Math.floor(count / batchSize);
  return (step) => {
    sampler.seek({ epoch: Math.floor(step / batches), index: (step % batches) * batchSize });
    return sampler.next();
  };
}
