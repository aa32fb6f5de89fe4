/** The key/value cache of decoding: writing new steps into variables that attention then reads. */
import { AttuneError } from "../core/errors.ts";
import { numel, sameShape, showShape } from "../core/shape.ts";
import { applyEffect, defineOp, type Effect, grid } from "../graph/op.ts";
import { read, type Sym, type Variable } from "../graph/sym.ts";
import source from "../../shaders/cache_write.wgsl" with { type: "text" };
import { checkRows, type RowFlags, rowFlags, rowInputs, type RowOptions, splitRows } from "./rows.ts";

const WORKGROUP = 64;

/** Writes values into the cache at each row's position: inputs cache [B, S, ...], values [B, T, ...], rows. */
export const cacheWriteOp = defineOp<RowFlags>({
  name: "cacheWrite",
  shape([cache, values, ...rest], flags) {
    const fits = cache.shape.length >= 2 && values.shape.length === cache.shape.length &&
      cache.shape[0] === values.shape[0] &&
      sameShape(cache.shape.slice(2), values.shape.slice(2)) && cache.dtype === "f32" && values.dtype === "f32";
    if (!fits) {
      throw new AttuneError(
        "cacheWrite-shape",
        `cacheWrite: the cache is f32[B,S,heads,D] and the values f32[B,T,heads,D], got ${cache.dtype}${
          showShape(cache.shape)
        } and ${values.dtype}${showShape(values.shape)}`,
      );
    }
    checkRows("cacheWrite", cache.shape[0], rest, flags);
    return [];
  },
  kernels({ inputs: [cache, values, ...rest], attrs }) {
    const [, S] = cache.shape;
    const { offsets, lengths } = splitRows(rest, attrs);
    return [{
      name: "cache_write",
      source,
      constants: { WG: WORKGROUP, OFFSETS: Number(attrs.offsets), LENGTHS: Number(attrs.lengths) },
      params: { total: numel(values.shape), T: values.shape[1], S, inner: numel(values.shape.slice(2)) },
      reads: [values, offsets ?? values, lengths ?? values],
      writes: [cache],
      workgroups: grid(numel(values.shape) / WORKGROUP),
    }];
  },
  grad: "none",
  reference({ inputs: [{ shape: [B, S] }, { shape: [, T, ...rest] }], args: [cache, values, ...given], attrs }) {
    const { offsets, lengths } = splitRows(given, attrs);
    const inner = numel(rest);
    for (let b = 0; b < B; b++) {
      for (let t = 0; t < Math.min(T, lengths?.[b] ?? T); t++) {
        const position = t + (offsets?.[b] ?? 0);
        const at = (b * T + t) * inner;
        if (position < S) cache.set(values.subarray(at, at + inner), (b * S + position) * inner);
      }
    }
    return [];
  },
  mutates: [0],
});

/**
 * Writes values [B, T, heads, D] into the variable `cache` [B, S, heads, D], step t of row b at position offsets[b] + t.
 * Positions ≥ S are dropped, and so are steps t ≥ lengths[b]. An op made later reads the new values.
 */
export const cacheWrite = (cache: Variable, values: Sym, rows: RowOptions = {}): Effect =>
  applyEffect(cacheWriteOp, [read(cache), values, ...rowInputs(rows)], rowFlags(rows));
