/** Small constant tensors, one per shape, so that plans share them. */
import { numel, type Shape } from "../core/shape.ts";
import type { Tensor } from "../core/shape.ts";
import { constant, type Sym } from "../graph/sym.ts";

const filled = new Map<string, Tensor>();

/** A tensor of one value. */
export function full(shape: Shape, value: number): Sym {
  const key = `${value}:${shape}`;
  const tensor = filled.get(key) ?? { shape, data: new Float32Array(numel(shape)).fill(value) };
  filled.set(key, tensor);
  return constant(tensor);
}

export const ones = (shape: Shape): Sym => full(shape, 1);
