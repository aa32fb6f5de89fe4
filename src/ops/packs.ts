/** Kernels that take one element or four at a time, and how the row-wise ones share rows among invocations. */
import { assert } from "../core/errors.ts";
import { last, rows, type Shape } from "../core/shape.ts";
import { grid } from "../graph/op.ts";

/** The first line of a shader written in packs of elements, and what replaces it where packs are of four. */
const ONE =
  "alias pack = f32; const OFFSETS = 0.0; fn total(v: pack) -> f32 { return v; } fn greatest(v: pack) -> f32 { return v; }";
const FOUR = "alias pack = vec4f; const OFFSETS = vec4f(0.0, 1.0, 2.0, 3.0); " +
  "fn total(v: pack) -> f32 { return v.x + v.y + v.z + v.w; } fn greatest(v: pack) -> f32 { return max(max(v.x, v.y), max(v.z, v.w)); }";

/**
 * The shader for runs of `n` elements and the number of packs in a run: of four where they fit, else of one. Packs of
 * four halve the time of memory-bound kernels on software adapters.
 */
export function packed(source: string, n: number): { source: string; packs: number } {
  assert(source.startsWith(ONE), "a shader in packs starts with their definition");
  return n % 4 === 0 ? { source: source.replace(ONE, FOUR), packs: n / 4 } : { source, packs: n };
}

const WORKGROUP = 64;

/** What a pointwise kernel over `n` elements in packs is made of. */
export function pointwise(shader: string, n: number) {
  const { source, packs } = packed(shader, n);
  return { source, constants: { WG: WORKGROUP }, params: { packs }, workgroups: grid(packs / WORKGROUP) };
}

/**
 * What a row-wise kernel over [rows, C] in packs is made of: LANES invocations share a row, a workgroup has WG / LANES
 * rows. One lane for short rows, since barriers are slow on software adapters; a whole workgroup for long ones.
 */
export function rowwise(shader: string, shape: Shape) {
  const { source, packs } = packed(shader, last(shape));
  const LANES = packs >= 512 ? WORKGROUP : packs >= 64 ? 8 : 1;
  const params = { rows: rows(shape), packs };
  return { source, constants: { WG: WORKGROUP, LANES }, params, workgroups: grid(rows(shape) * LANES / WORKGROUP) };
}
