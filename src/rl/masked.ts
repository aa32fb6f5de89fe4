/** Sums over the tokens that count. `mask` is 1 on those and 0 elsewhere; masked positions never change anything. */
import type { Sym } from "../graph/sym.ts";
import { div, mul } from "../ops/binary.ts";
import { sumAll, sumLast } from "../ops/reduce.ts";

/** Σ_t x_t · mask_t of each row: [B, T] -> [B]. */
export const sequenceSum = (x: Sym, mask: Sym): Sym => sumLast(mul(x, mask));

/**
 * Σ x · mask / normalizer: a scalar. The normalizer is an input, the count over the whole batch, so that micro-batches
 * of unequal lengths add up to what one batch would give.
 */
export const maskedSum = (x: Sym, mask: Sym, normalizer: Sym): Sym => div(sumAll(mul(x, mask)), normalizer);
