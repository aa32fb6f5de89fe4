/** Sums and maxima over one axis, in a fixed order: the same bits every time. */
import { AttuneError } from "../core/errors.ts";
import { numel, sameShape, type Shape, showShape } from "../core/shape.ts";
import { apply, type Call, defineOp, grid, type Kernel } from "../graph/op.ts";
import type { Sym } from "../graph/sym.ts";
import reduceSource from "../../shaders/reduce.wgsl" with { type: "text" };
import columnsSource from "../../shaders/sum_columns.wgsl" with { type: "text" };
import { expand, mul } from "./binary.ts";
import { reshape } from "./shape.ts";

interface Axis {
  readonly axis: number;
}

/** The input seen as [outer, n, inner] around the reduced axis. */
function around(shape: Shape, axis: number): { outer: number; n: number; inner: number } {
  return { outer: numel(shape.slice(0, axis)), n: shape[axis], inner: numel(shape.slice(axis + 1)) };
}

function reducedShape(name: string, x: Sym, axis: number): { shape: Shape; dtype: "f32" }[] {
  if (!Number.isInteger(axis) || axis < 0 || axis >= x.shape.length) {
    throw new AttuneError(`${name}-axis`, `${name}: axis ${axis} of ${showShape(x.shape)} does not exist`);
  }
  return [{ shape: x.shape.filter((_, i) => i !== axis), dtype: "f32" }];
}

/**
 * Invocations that share one output. The same for all usual lengths, so that zeros appended to a row (a wider bucket of
 * the same tokens) leave the bits of its sum as they are.
 */
const invocations = (n: number): number => n >= 1024 ? 64 : 16;

function reduceKernel(name: string, { inputs: [x], outputs: [y], attrs: { axis } }: Call<Axis>, MAX: number): Kernel[] {
  const { n, inner } = around(x.shape, axis);
  return [{
    name,
    source: reduceSource,
    constants: { WG: invocations(n), MAX },
    params: { outputs: numel(y.shape), n, inner },
    reads: [x],
    writes: [y],
    workgroups: grid(numel(y.shape)),
    flops: numel(x.shape),
  }];
}

/** Rows that one invocation of the column kernel adds up before a second pass joins the partial sums. */
const COLUMN_CHUNK = 64;

/** Sums over leading axes (bias gradients): stride-one reads, two passes. */
function columnKernels(x: Sym, y: Sym, n: number, inner: number): Kernel[] {
  const segments = Math.ceil(n / COLUMN_CHUNK);
  const part = { scratch: "part", shape: [segments, inner], dtype: "f32" } as const;
  const pass = (from: Sym | typeof part, to: Sym | typeof part, rows: number, chunk: number): Kernel => ({
    name: "sum_columns",
    source: columnsSource,
    constants: { WG: 64 },
    params: { n: rows, inner, chunk },
    reads: [from],
    writes: [to],
    workgroups: [Math.ceil(inner / 64), Math.ceil(rows / chunk), 1],
    flops: rows * inner,
  });
  return [pass(x, part, n, COLUMN_CHUNK), pass(part, y, segments, segments)];
}

/** y = Σ over `axis` of x, the axis dropped. */
export const sumOp = defineOp<Axis>({
  name: "sum",
  shape: ([x], { axis }) => reducedShape("sum", x, axis),
  kernels(call) {
    const { outer, n, inner } = around(call.inputs[0].shape, call.attrs.axis);
    return outer === 1 && inner >= 16 && n >= 2
      ? columnKernels(call.inputs[0], call.outputs[0], n, inner)
      : reduceKernel("sum", call, 0);
  },
  grad: ({ inputs: [x], grads: [dy], attrs: { axis } }) => [dy && expand(keepAxis(dy, axis), x.shape)],
  reference: (
    { inputs: [x], args: [data], attrs: { axis } },
  ) => [reduceReference(data, x.shape, axis, 0, (a, b) => a + b)],
});

/** y = max over `axis` of x, the axis dropped; no gradient. */
export const maxOverOp = defineOp<Axis>({
  name: "maxOver",
  shape: ([x], { axis }) => reducedShape("maxOver", x, axis),
  kernels: (call) => reduceKernel("maxOver", call, 1),
  grad: "none",
  reference: (
    { inputs: [x], args: [data], attrs: { axis } },
  ) => [reduceReference(data, x.shape, axis, -Infinity, Math.max)],
});

function reduceReference(
  data: ArrayLike<number>,
  shape: Shape,
  axis: number,
  start: number,
  join: (a: number, b: number) => number,
): Float64Array {
  const { outer, n, inner } = around(shape, axis);
  const out = new Float64Array(outer * inner).fill(start);
  for (let o = 0; o < outer; o++) {
    for (let k = 0; k < n; k++) {
      for (let i = 0; i < inner; i++) out[o * inner + i] = join(out[o * inner + i], data[(o * n + k) * inner + i]);
    }
  }
  return out;
}

const keepAxis = (y: Sym, axis: number): Sym => reshape(y, [...y.shape.slice(0, axis), 1, ...y.shape.slice(axis)]);

const dropOrKeep = (op: typeof sumOp, x: Sym, axis: number, keep: boolean): Sym => {
  const at = axis < 0 ? x.shape.length + axis : axis;
  const [y] = apply(op, [x], { axis: at });
  return keep ? keepAxis(y, at) : y;
};

/** Σ over one axis (negative counts from the end); `keep` leaves it as size 1. */
export const sum = (x: Sym, axis: number, { keep = false } = {}): Sym => dropOrKeep(sumOp, x, axis, keep);
export const maxOver = (x: Sym, axis: number, { keep = false } = {}): Sym => dropOrKeep(maxOverOp, x, axis, keep);
/** Σ over the last axis. */
export const sumLast = (x: Sym, options = { keep: false }): Sym => sum(x, -1, options);
/** The mean over one axis. */
export const mean = (x: Sym, axis: number, options = { keep: false }): Sym =>
  mul(sum(x, axis, options), 1 / (x.shape.at(axis) ?? 1));
/** Σ over all elements: a scalar. */
export const sumAll = (x: Sym): Sym => reshape(sum(reshape(x, [numel(x.shape)]), 0), []);
export const meanAll = (x: Sym): Sym => mul(sumAll(x), 1 / numel(x.shape));

/** Sums the axes along which `shape` was broadcast to x's shape: the gradient of broadcasting. */
export function sumTo(x: Sym, shape: Shape): Sym {
  if (sameShape(x.shape, shape)) return x;
  let y = x;
  while (y.shape.length > shape.length) y = sum(y, 0);
  shape.forEach((d, axis) => {
    if (d === 1 && y.shape[axis] !== 1) y = sum(y, axis, { keep: true });
  });
  return y;
}
