/** Optional u32 [B] inputs that say where each row of a batch stands and how much of it counts. */
import { AttuneError } from "../core/errors.ts";
import { sameShape, showShape } from "../core/shape.ts";
import type { Sym } from "../graph/sym.ts";

export interface RowOptions {
  /** Step t of row b stands at absolute position offsets[b] + t. Without it, at t. */
  readonly offsets?: Sym | undefined;
  /** Steps t ≥ lengths[b] of row b do not count. Without it, all count. */
  readonly lengths?: Sym | undefined;
}

/** Which of the options an op was given: part of its attrs. */
export interface RowFlags {
  readonly offsets: boolean;
  readonly lengths: boolean;
}

export const rowFlags = ({ offsets, lengths }: RowOptions): RowFlags => ({
  offsets: offsets !== undefined,
  lengths: lengths !== undefined,
});

/** The options that were given, to stand after an op's other inputs: offsets, then lengths. */
export const rowInputs = ({ offsets, lengths }: RowOptions): Sym[] => [offsets, lengths].filter((s) => s !== undefined);

/** Takes apart what {@link rowInputs} made, whether it is Syms or their data. */
export function splitRows<X>(given: readonly X[], flags: RowFlags): { offsets: X | undefined; lengths: X | undefined } {
  return {
    offsets: flags.offsets ? given[0] : undefined,
    lengths: flags.lengths ? given[Number(flags.offsets)] : undefined,
  };
}

/** Checks that the options are u32 [B]. */
export function checkRows(op: string, batch: number, given: readonly Sym[], flags: RowFlags): void {
  for (const [name, sym] of Object.entries(splitRows(given, flags))) {
    if (sym !== undefined && (sym.dtype !== "u32" || !sameShape(sym.shape, [batch]))) {
      throw new AttuneError(
        `${op}-${name}`,
        `${op}: ${name} is u32[${batch}], one for each row, got ${sym.dtype}${showShape(sym.shape)}`,
      );
    }
  }
}
