/**
 * Normalisation over the last axis, alone or fused with the residual sum before it.
 *
 * RMS norm: Zhang & Sennrich 2019, arXiv:1910.07467, eq. 4. Layer norm: Ba et al. 2016, arXiv:1607.06450, eq. 4.
 * eps stands inside the square root, as in Llama and GPT-2. Statistics are computed anew in the backward pass: it reads
 * the row in any case.
 */
import { AttuneError } from "../core/errors.ts";
import { last, rows, sameShape, type Shape, showShape } from "../core/shape.ts";
import { apply, defineOp, type Kernel, type Op, type RefArray, type Scratch, type Spec } from "../graph/op.ts";
import type { Sym } from "../graph/sym.ts";
import backwardSource from "../../shaders/norm_backward.wgsl" with { type: "text" };
import weightSource from "../../shaders/norm_weight_backward.wgsl" with { type: "text" };
import source from "../../shaders/norm.wgsl" with { type: "text" };
import columnsSource from "../../shaders/sum_columns.wgsl" with { type: "text" };
import { packed, rowwise } from "./packs.ts";

interface NormAttrs {
  readonly eps: number;
}

/** What tells the four ops apart: layer norm instead of RMS norm, a residual sum in front. */
interface Kind {
  readonly name: string;
  readonly layer: boolean;
  readonly add: boolean;
}

/** Rows whose weight gradient one invocation adds up before a second pass joins the partial sums. */
const SEGMENT = 32;

/** The binding of an output that this variant of a shader does not write. */
const UNUSED: Scratch = { scratch: "unused", shape: [1], dtype: "f32" };

const flag = (on: boolean): number => on ? 1 : 0;

/** The inputs by name: x, [residual], weight, [bias]. */
function named<T>(inputs: readonly T[], { layer, add }: Kind): { x: T; residual?: T; weight: T; bias?: T } {
  const [x, ...others] = inputs;
  const residual = add ? others.shift() : undefined;
  const [weight, bias] = others;
  return { x, residual, weight, bias: layer ? bias : undefined };
}

function checkShapes(inputs: readonly Sym[], kind: Kind): Shape {
  const { x, residual, weight, bias } = named(inputs, kind);
  const row = [last(x.shape)];
  const fits = x.shape.length > 0 && (residual === undefined || sameShape(residual.shape, x.shape)) &&
    sameShape(weight.shape, row) && (bias === undefined || sameShape(bias.shape, row));
  if (!fits) {
    const wants = ["x [..., C]", kind.add ? "residual [..., C]" : "", "weight [C]", kind.layer ? "bias [C]" : ""];
    throw new AttuneError(
      `${kind.name}-shape`,
      `${kind.name}: takes ${wants.filter((s) => s !== "").join(", ")}, got ${
        inputs.map((s) => showShape(s.shape)).join(", ")
      }`,
    );
  }
  return x.shape;
}

function forwardKernel(inputs: readonly Sym[], outputs: readonly Sym[], eps: number, kind: Kind): Kernel {
  const { x, residual, weight, bias } = named(inputs, kind);
  const kernel = rowwise(source, x.shape);
  return {
    ...kernel,
    name: kind.layer ? "layer_norm" : "rms_norm",
    constants: { ...kernel.constants, LAYER: flag(kind.layer), ADD: flag(kind.add) },
    params: { ...kernel.params, C: last(x.shape), eps: { f32: eps } },
    reads: [x, residual ?? x, weight, bias ?? weight],
    writes: kind.add ? outputs : [UNUSED, ...outputs],
  };
}

function normOp(kind: Kind): Op<NormAttrs> {
  const { layer, add } = kind;
  return defineOp<NormAttrs>({
    name: kind.name,
    shape(inputs) {
      const spec: Spec = { shape: checkShapes(inputs, kind), dtype: "f32" };
      return add ? [spec, spec] : [spec];
    },
    kernels: ({ inputs, outputs, attrs }) => [forwardKernel(inputs, outputs, attrs.eps, kind)],
    grad({ inputs, outputs, grads, needs, attrs: { eps } }) {
      const { weight } = named(inputs, kind);
      const [dh, dy] = add ? grads : [undefined, grads[0]];
      if (dy === undefined) return [dh, dh];
      const wantsWeights = needs.slice(add ? 2 : 1).some((n) => n);
      const h = add ? outputs[0] : inputs[0];
      const [dx, dweight, dbias] = apply(normBackwardOp, dh === undefined ? [h, weight, dy] : [h, weight, dy, dh], {
        eps,
        layer,
        weights: wantsWeights,
      });
      return [dx, ...(add ? [dx] : []), dweight, dbias];
    },
    reference({ inputs, args, attrs: { eps } }) {
      const { x, residual, weight, bias } = named(args, kind);
      const h = residual === undefined ? x : Float64Array.from(x, (v, i) => v + residual[i]);
      const C = last(inputs[0].shape);
      const y = new Float64Array(h.length);
      for (let start = 0; start < h.length; start += C) {
        const { mu, r } = moments(h, start, C, eps, layer);
        for (let c = 0; c < C; c++) y[start + c] = (h[start + c] - mu) * r * weight[c] + (bias?.[c] ?? 0);
      }
      return add ? [Float64Array.from(h), y] : [y];
    },
  });
}

/** μ (0 for RMS norm) and r = 1 / sqrt(mean((x − μ)²) + eps) of one row. */
function moments(x: RefArray, start: number, C: number, eps: number, layer: boolean): { mu: number; r: number } {
  let mu = 0;
  if (layer) { for (let c = 0; c < C; c++) mu += x[start + c] / C; }
  let variance = 0;
  for (let c = 0; c < C; c++) variance += (x[start + c] - mu) ** 2 / C;
  return { mu, r: 1 / Math.sqrt(variance + eps) };
}

interface BackwardAttrs extends NormAttrs {
  readonly layer: boolean;
  /** Whether dweight (and with `layer` dbias) are outputs too. */
  readonly weights: boolean;
}

/** (h, weight, dy, [dh]) -> dx, [dweight, [dbias]]; dh, the gradient of a fused residual sum, is added to dx. */
export const normBackwardOp = defineOp<BackwardAttrs>({
  name: "normBackward",
  shape([h, weight], { layer, weights }) {
    const dweight: Spec = { shape: weight.shape, dtype: "f32" };
    return [{ shape: h.shape, dtype: "f32" }, ...(weights ? [dweight] : []), ...(weights && layer ? [dweight] : [])];
  },
  kernels({ inputs: [h, weight, dy, dh], outputs: [dx, dweight, dbias], attrs: { eps, layer, weights } }) {
    const [N, C] = [rows(h.shape), last(h.shape)];
    const stats: Scratch = { scratch: "stats", shape: [N, 2], dtype: "f32" };
    const kernel = rowwise(backwardSource, h.shape);
    const rowKernel: Kernel = {
      ...kernel,
      name: layer ? "layer_norm_backward" : "rms_norm_backward",
      constants: { ...kernel.constants, LAYER: flag(layer), ADD: flag(dh !== undefined) },
      params: { ...kernel.params, C, eps: { f32: eps } },
      reads: [h, weight, dy, dh ?? dy],
      writes: [dx, stats],
    };
    if (!weights) return [rowKernel];
    const segments = Math.ceil(N / SEGMENT);
    const partial = (name: string, whole: Sym): Sym | Scratch =>
      segments === 1 ? whole : { scratch: name, shape: [segments, C], dtype: "f32" };
    const [partWeight, partBias] = [partial("dweight", dweight), layer ? partial("dbias", dbias) : UNUSED];
    const { source: columnSource, packs } = packed(weightSource, C);
    const columnKernel: Kernel = {
      name: "norm_weight_backward",
      source: columnSource,
      constants: { WG: 64, LAYER: flag(layer) },
      params: { rows: N, packs, segment: SEGMENT },
      reads: [h, dy, stats],
      writes: [partWeight, partBias],
      workgroups: [Math.ceil(packs / 64), segments, 1],
    };
    const join = (from: Sym | Scratch, to: Sym): Kernel => ({
      name: "sum_columns",
      source: columnsSource,
      constants: { WG: 64 },
      params: { n: segments, inner: C, chunk: segments },
      reads: [from],
      writes: [to],
      workgroups: [Math.ceil(C / 64), 1, 1],
    });
    const joins = segments === 1 ? [] : [join(partWeight, dweight), ...(layer ? [join(partBias, dbias)] : [])];
    return [rowKernel, columnKernel, ...joins];
  },
  grad: "none",
  reference({ inputs, args: [h, weight, dy, dh], attrs: { eps, layer, weights } }) {
    const C = last(inputs[0].shape);
    const dx = new Float64Array(h.length);
    const [dweight, dbias] = [new Float64Array(C), new Float64Array(C)];
    for (let start = 0; start < h.length; start += C) {
      const { mu, r } = moments(h, start, C, eps, layer);
      let [meanG, meanGx] = [0, 0];
      for (let c = 0; c < C; c++) {
        const [g, normed] = [dy[start + c] * weight[c], (h[start + c] - mu) * r];
        meanG += layer ? g / C : 0;
        meanGx += g * normed / C;
        dweight[c] += dy[start + c] * normed;
        dbias[c] += dy[start + c];
      }
      for (let c = 0; c < C; c++) {
        const [g, normed] = [dy[start + c] * weight[c], (h[start + c] - mu) * r];
        dx[start + c] = r * (g - meanG - normed * meanGx) + (dh?.[start + c] ?? 0);
      }
    }
    return [dx, ...(weights ? [dweight] : []), ...(weights && layer ? [dbias] : [])];
  },
});

export const rmsNormOp = normOp({ name: "rmsNorm", layer: false, add: false });
export const layerNormOp = normOp({ name: "layerNorm", layer: true, add: false });
export const addRmsNormOp = normOp({ name: "addRmsNorm", layer: false, add: true });
export const addLayerNormOp = normOp({ name: "addLayerNorm", layer: true, add: true });

/** x [..., C] divided by the root mean square of its rows, times weight [C]. Errors: `rmsNorm-shape`. */
export const rmsNorm = (x: Sym, weight: Sym, eps: number): Sym => apply(rmsNormOp, [x, weight], { eps })[0];

/** x [..., C] with rows of mean 0 and variance 1, times weight [C], plus bias [C]. Errors: `layerNorm-shape`. */
export const layerNorm = (x: Sym, weight: Sym, bias: Sym, eps: number): Sym =>
  apply(layerNormOp, [x, weight, bias], { eps })[0];

/** A residual sum and its norm, in one kernel: both [..., C]. */
export interface AddNorm {
  /** x + residual */
  readonly sum: Sym;
  readonly normed: Sym;
}

/** rmsNorm(x + residual) and the sum itself, x and residual [..., C], weight [C]. Errors: `addRmsNorm-shape`. */
export function addRmsNorm(x: Sym, residual: Sym, weight: Sym, eps: number): AddNorm {
  const [sum, normed] = apply(addRmsNormOp, [x, residual, weight], { eps });
  return { sum, normed };
}

/** layerNorm(x + residual) and the sum itself, x and residual [..., C], weight and bias [C]. Errors: `addLayerNorm-shape`. */
export function addLayerNorm(x: Sym, residual: Sym, weight: Sym, bias: Sym, eps: number): AddNorm {
  const [sum, normed] = apply(addLayerNormOp, [x, residual, weight, bias], { eps });
  return { sum, normed };
}
