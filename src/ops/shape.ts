/** Ops that move values and compute nothing: reshape (free), slice, pad, concat. */
import { AttuneError } from "../core/errors.ts";
import { numel, sameShape, type Shape, showShape } from "../core/shape.ts";
import { apply, defineOp, grid, type Kernel, type RefArray } from "../graph/op.ts";
import type { Sym } from "../graph/sym.ts";
import source from "../../shaders/slice.wgsl" with { type: "text" };
import { add } from "./binary.ts";

/** The same values under another shape; costs nothing. */
export const reshapeOp = defineOp<{ shape: Shape }>({
  name: "reshape",
  shape([x], { shape }) {
    if (numel(x.shape) !== numel(shape)) {
      throw new AttuneError(
        "reshape-size",
        `reshape: ${showShape(x.shape)} has not the elements of ${showShape(shape)}`,
      );
    }
    return [{ shape, dtype: x.dtype }];
  },
  kernels: "view",
  grad: ({ inputs: [x], grads: [dy] }) => [dy && reshape(dy, x.shape)],
  reference: ({ args: [x] }) => [x],
});

interface Part {
  readonly axis: number;
  readonly start: number;
  /** The length of the slice, or of the axis after padding. */
  readonly length: number;
}

function partKernel(name: string, x: Sym, y: Sym, { axis, start }: Part, PAD: 0 | 1): Kernel[] {
  const [long, short] = PAD === 1 ? [y, x] : [x, y];
  return [{
    name,
    source,
    constants: { WG: 64, PAD },
    params: {
      total: numel(y.shape),
      n: long.shape[axis],
      part: short.shape[axis],
      inner: numel(y.shape.slice(axis + 1)),
      start,
    },
    reads: [x],
    writes: [y],
    workgroups: grid(numel(y.shape) / 64),
  }];
}

function resized(
  name: string,
  x: Sym,
  { axis, start, length }: Part,
  fits: (n: number) => boolean,
): { shape: Shape; dtype: Sym["dtype"] }[] {
  const n = x.shape[axis];
  if (n === undefined || start < 0 || !fits(n)) {
    throw new AttuneError(
      `${name}-range`,
      `${name}: start ${start}, length ${length} does not fit axis ${axis} of ${showShape(x.shape)}`,
    );
  }
  return [{ shape: x.shape.map((d, i) => i === axis ? length : d), dtype: x.dtype }];
}

/** Copies x[start … start + length) of one axis. */
export const sliceOp = defineOp<Part>({
  name: "slice",
  shape: ([x], part) => resized("slice", x, part, (n) => part.length > 0 && part.start + part.length <= n),
  kernels: ({ inputs: [x], outputs: [y], attrs }) => partKernel("slice", x, y, attrs, 0),
  grad: ({ inputs: [x], grads: [dy], attrs: { axis, start } }) => [dy && pad(dy, axis, start, x.shape[axis])],
  reference: ({ inputs: [x], outputs: [y], args: [data], attrs }) => [movePart(data, x.shape, y.shape, attrs, false)],
});

/** Writes x into zeros of a longer axis, from `start` on. */
export const padOp = defineOp<Part>({
  name: "pad",
  shape: ([x], part) => resized("pad", x, part, (n) => part.start + n <= part.length),
  kernels: ({ inputs: [x], outputs: [y], attrs }) => partKernel("pad", x, y, attrs, 1),
  grad: ({ inputs: [x], grads: [dy], attrs: { axis, start } }) => [dy && slice(dy, axis, start, start + x.shape[axis])],
  reference: ({ inputs: [x], outputs: [y], args: [data], attrs }) => [movePart(data, x.shape, y.shape, attrs, true)],
});

function movePart(data: RefArray, from: Shape, to: Shape, { axis, start }: Part, padding: boolean): RefArray {
  const out = data instanceof Uint32Array ? new Uint32Array(numel(to)) : new Float64Array(numel(to));
  const inner = numel(from.slice(axis + 1));
  const part = Math.min(from[axis], to[axis]);
  for (let o = 0; o < numel(from.slice(0, axis)); o++) {
    const source = (o * from[axis] + (padding ? 0 : start)) * inner;
    out.set(data.subarray(source, source + part * inner), (o * to[axis] + (padding ? start : 0)) * inner);
  }
  return out;
}

export const reshape = (x: Sym, shape: Shape): Sym =>
  sameShape(x.shape, shape) ? x : apply(reshapeOp, [x], { shape })[0];

/** x[start … end) along one axis. */
export const slice = (x: Sym, axis: number, start: number, end: number): Sym =>
  apply(sliceOp, [x], { axis, start, length: end - start })[0];

/** Zeros of length `length` along one axis, with x at `start`. */
export const pad = (x: Sym, axis: number, start: number, length: number): Sym =>
  apply(padOp, [x], { axis, start, length })[0];

/** f32 tensors joined along one axis. */
export function concat(parts: readonly Sym[], axis: number): Sym {
  const length = parts.reduce((n, x) => n + x.shape[axis], 0);
  let start = 0;
  const padded = parts.map((x) => {
    start += x.shape[axis];
    return pad(x, axis, start - x.shape[axis], length);
  });
  return padded.reduce((a, b) => add(a, b));
}
