/** What a forward pass knows besides its tokens: positions, lengths and, when generating, the cache. */
import type { Effect } from "../graph/op.ts";
import type { Sym, Variable } from "../graph/sym.ts";

/** Keys and values of one layer: [B, S, Hkv, D]. */
export interface LayerCache {
  readonly keys: Variable;
  readonly values: Variable;
}

export interface Context {
  /** u32 [B]: the absolute position of each row's first token; 0 when left out. */
  readonly offsets?: Sym;
  /** u32 [B]: how many tokens of each row are real; all when left out. Padding stands at the end. */
  readonly lengths?: Sym;
  /** Present when generating: keys and values are written here at the rows' positions and read from here. */
  readonly cache?: { readonly layers: readonly LayerCache[]; readonly effects: Effect[] };
  /** Blocks recompute their inner values in the backward pass: less memory, about a third more time. */
  readonly checkpointing?: boolean;
}
