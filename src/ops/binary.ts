/** Pointwise functions of two values with NumPy broadcasting: a table row each, and a `case` in binary.wgsl. */
import { AttuneError } from "../core/errors.ts";
import { broadcastShapes, numel, sameShape, type Shape, showShape } from "../core/shape.ts";
import { apply, defineOp, grid, type Kernel, type Op } from "../graph/op.ts";
import type { Sym } from "../graph/sym.ts";
import source from "../../shaders/binary.wgsl" with { type: "text" };
import { pointwise } from "./packs.ts";
import { sumTo } from "./reduce.ts";
import { affine, neg } from "./unary.ts";

const WORKGROUP = 64;

export type BinaryName = "add" | "sub" | "mul" | "div" | "max" | "min" | "greater";

interface Row {
  readonly code: number;
  f(a: number, b: number): number;
  /** dL/da and dL/db before they are summed over broadcast axes. */
  readonly grad: "none" | ((a: Sym, b: Sym, dy: Sym) => [Sym, Sym]);
}

const TABLE: Readonly<Record<BinaryName, Row>> = {
  add: { code: 0, f: (a, b) => a + b, grad: (_a, _b, dy) => [dy, dy] },
  sub: { code: 1, f: (a, b) => a - b, grad: (_a, _b, dy) => [dy, neg(dy)] },
  mul: { code: 2, f: (a, b) => a * b, grad: (a, b, dy) => [mul(dy, b), mul(dy, a)] },
  div: {
    code: 3,
    f: (a, b) => a / b,
    grad: (a, b, dy) => {
      const da = div(dy, b);
      return [da, neg(mul(da, div(a, b)))];
    },
  },
  // Ties send the whole gradient to the first argument, as a derivative of one branch.
  max: { code: 4, f: Math.max, grad: (a, b, dy) => [mul(dy, affine(greater(b, a), -1, 1)), mul(dy, greater(b, a))] },
  min: { code: 5, f: Math.min, grad: (a, b, dy) => [mul(dy, affine(greater(a, b), -1, 1)), mul(dy, greater(a, b))] },
  greater: { code: 6, f: (a, b) => a > b ? 1 : 0, grad: "none" },
};

/** Strides of `shape` as broadcast to four axes: 0 where an axis is repeated. */
function strides(shape: Shape): number[] {
  const padded = [...Array(4 - shape.length).fill(1), ...shape];
  let step = 1;
  const out = [0, 0, 0, 0];
  for (let i = 3; i >= 0; i--) {
    out[i] = padded[i] === 1 ? 0 : step;
    step *= padded[i];
  }
  return out;
}

const dims = (shape: Shape): number[] => [...Array(4 - shape.length).fill(1), ...shape];

function kernel(name: string, OP: number, a: Sym, b: Sym, y: Sym): Kernel {
  const same = sameShape(a.shape, y.shape) && sameShape(b.shape, y.shape);
  const [, d1, d2, d3] = dims(y.shape);
  const [a0, a1, a2, a3] = strides(a.shape);
  const [b0, b1, b2, b3] = strides(b.shape);
  const n = numel(y.shape);
  const base = same
    ? pointwise(source, n)
    : { source, constants: { WG: WORKGROUP }, params: { packs: n }, workgroups: grid(n / WORKGROUP) };
  return {
    ...base,
    name,
    constants: { ...base.constants, OP, SAME: same ? 1 : 0 },
    params: { ...base.params, d1, d2, d3, a0, a1, a2, a3, b0, b1, b2, b3 },
    reads: [a, b],
    writes: [y],
    flops: n,
  };
}

/** Visits y's elements in order with the flat indices of a's and b's. */
function loop(a: Sym, b: Sym, y: Sym, f: (i: number, j: number) => number): Float64Array {
  const [sa, sb, d] = [strides(a.shape), strides(b.shape), dims(y.shape)];
  const out = new Float64Array(numel(y.shape));
  for (let t = 0; t < out.length; t++) {
    const index = [
      Math.floor(t / (d[1] * d[2] * d[3])),
      Math.floor(t / (d[2] * d[3])) % d[1],
      Math.floor(t / d[3]) % d[2],
      t % d[3],
    ];
    const at = (stride: readonly number[]): number => index.reduce((n, k, axis) => n + k * stride[axis], 0);
    out[t] = f(at(sa), at(sb));
  }
  return out;
}

const binaryOp = (name: BinaryName): Op<Record<string, never>> => {
  const row = TABLE[name];
  const { grad } = row;
  return defineOp({
    name,
    shape([a, b]) {
      const shape = broadcastShapes(a.shape, b.shape);
      if (shape === undefined || shape.length > 4) {
        throw new AttuneError(
          `${name}-shape`,
          `${name}: shapes do not broadcast (at most 4 axes), got ${showShape(a.shape)} and ${showShape(b.shape)}`,
        );
      }
      return [{ shape, dtype: "f32" }];
    },
    kernels: ({ inputs: [a, b], outputs: [y] }) => [kernel(name, row.code, a, b, y)],
    grad: grad === "none" ? "none" : ({ inputs: [a, b], grads: [dy], needs }) => {
      if (dy === undefined) return [];
      const [da, db] = grad(a, b, dy);
      return [needs[0] ? sumTo(da, a.shape) : undefined, needs[1] ? sumTo(db, b.shape) : undefined];
    },
    reference: ({ inputs: [a, b], outputs: [y], args: [x, z] }) => [loop(a, b, y, (i, j) => row.f(x[i], z[j]))],
  });
};

/** The ops of the table, by name. */
export const binaryOps: Readonly<Record<BinaryName, Op<Record<string, never>>>> = Object.fromEntries(
  (Object.keys(TABLE) as BinaryName[]).map((name) => [name, binaryOp(name)]),
) as Record<BinaryName, Op<Record<string, never>>>;

/** x repeated along axes of size 1: the maximum of x and itself, read with broadcast strides. */
export const expandOp = defineOp<{ shape: Shape }>({
  name: "expand",
  shape([x], { shape }) {
    const reached = broadcastShapes(x.shape, shape);
    if (reached === undefined || !sameShape(reached, shape) || shape.length > 4) {
      throw new AttuneError(
        "expand-shape",
        `expand: ${showShape(x.shape)} does not broadcast to ${showShape(shape)} (at most 4 axes)`,
      );
    }
    return [{ shape, dtype: "f32" }];
  },
  kernels: ({ inputs: [x], outputs: [y] }) => [kernel("expand", TABLE.max.code, x, x, y)],
  grad: ({ inputs: [x], grads: [dy] }) => [dy && sumTo(dy, x.shape)],
  reference: ({ inputs: [x], outputs: [y], args: [data] }) => [loop(x, x, y, (i) => data[i])],
});

/** x repeated along axes of size 1, up to `shape`. */
export const expand = (x: Sym, shape: Shape): Sym => sameShape(x.shape, shape) ? x : apply(expandOp, [x], { shape })[0];

const call = (name: BinaryName, a: Sym, b: Sym): Sym => apply(binaryOps[name], [a, b], {})[0];

// A JS number is structure: it is compiled in. What changes from step to step is an input.
export const add = (a: Sym, b: Sym | number): Sym => typeof b === "number" ? affine(a, 1, b) : call("add", a, b);
export const sub = (a: Sym, b: Sym | number): Sym => typeof b === "number" ? affine(a, 1, -b) : call("sub", a, b);
export const mul = (a: Sym, b: Sym | number): Sym => typeof b === "number" ? affine(a, b, 0) : call("mul", a, b);
export const div = (a: Sym, b: Sym | number): Sym => typeof b === "number" ? affine(a, 1 / b, 0) : call("div", a, b);
export const max = (a: Sym, b: Sym): Sym => call("max", a, b);
export const min = (a: Sym, b: Sym): Sym => call("min", a, b);
/** 1 where a > b, else 0; no gradient. */
export const greater = (a: Sym, b: Sym): Sym => call("greater", a, b);
export const square = (x: Sym): Sym => mul(x, x);
