/** Copies a value into a variable. Lowering lets the value's producer write there directly when it can. */
import { AttuneError } from "../core/errors.ts";
import { numel, sameShape, showShape } from "../core/shape.ts";
import { applyEffect, defineOp, type Effect, grid } from "../graph/op.ts";
import { read, type Sym, type Variable } from "../graph/sym.ts";
import accumulateSource from "../../shaders/accumulate.wgsl" with { type: "text" };
import copySource from "../../shaders/copy.wgsl" with { type: "text" };

const WORKGROUP = 64;

function checkTarget(name: string, [target, value]: readonly Sym[]): [] {
  if (!sameShape(target.shape, value.shape) || target.dtype !== value.dtype) {
    throw new AttuneError(
      `${name}-shape`,
      `${name}: variable ${target.dtype}${showShape(target.shape)}, value ${value.dtype}${
        showShape(value.shape)
      }; they must be equal`,
    );
  }
  return [];
}

const elementwise =
  (name: string, source: string) => ({ inputs: [target, value] }: { readonly inputs: readonly Sym[] }) => [{
    name,
    source,
    constants: { WG: WORKGROUP },
    params: { n: numel(value.shape) },
    reads: [value],
    writes: [target],
    workgroups: grid(numel(value.shape) / WORKGROUP),
  }];

/** variable ← value. Works on bits, so on u32 as well as f32. */
export const assignOp = defineOp({
  name: "assign",
  shape: (inputs) => checkTarget("assign", inputs),
  kernels: elementwise("assign", copySource),
  grad: "none",
  reference: ({ args: [target, value] }) => {
    target.set(value);
    return [];
  },
  mutates: [0],
});

/** variable ← variable + value: sums gradients over micro-batches. */
export const accumulateOp = defineOp({
  name: "accumulate",
  shape: (inputs) => checkTarget("accumulate", inputs),
  kernels: elementwise("accumulate", accumulateSource),
  grad: "none",
  reference: ({ args: [target, value] }) => {
    for (let i = 0; i < value.length; i++) target[i] += value[i];
    return [];
  },
  mutates: [0],
});

export const assign = (target: Variable, value: Sym): Effect => applyEffect(assignOp, [read(target), value], {});
export const accumulate = (target: Variable, value: Sym): Effect =>
  applyEffect(accumulateOp, [read(target), value], {});
