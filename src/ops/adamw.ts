/**
 * AdamW over arenas (see src/graph/parameters.ts): the global norm of the gradients, Adam's clock, and one dispatch
 * per arena that clips, decays and updates. A norm that is not finite stops all of it: that update changes no bit.
 */
import { AttuneError } from "../core/errors.ts";
import { numel, sameShape, showShape } from "../core/shape.ts";
import { apply, applyEffect, defineOp, type Effect, grid, type Kernel } from "../graph/op.ts";
import { read, type Sym, type Variable } from "../graph/sym.ts";
import normSource from "../../shaders/grad_norm.wgsl" with { type: "text" };
import squaresSource from "../../shaders/sum_squares.wgsl" with { type: "text" };
import tickSource from "../../shaders/adam_tick.wgsl" with { type: "text" };
import adamwSource from "../../shaders/adamw.wgsl" with { type: "text" };

const WORKGROUP = 64;
/** Vectors of four that one invocation squares and adds. */
const RUN = 32;

/** Kernels read four elements at a time; arenas are multiples of 64. */
function checkArena(op: string, { shape, dtype }: Sym): void {
  if (shape.length === 1 && shape[0] % 4 === 0 && dtype === "f32") return;
  throw new AttuneError(
    `${op}-arena`,
    `${op}: an arena is f32 [n] with n a multiple of 4, got ${dtype}${showShape(shape)}`,
  );
}

function checkScalars(op: string, scalars: readonly Sym[]): void {
  for (const { shape, dtype } of scalars) {
    if (shape.length !== 0 || dtype !== "f32") {
      throw new AttuneError(`${op}-scalar`, `${op}: norm and knobs are f32[], got ${dtype}${showShape(shape)}`);
    }
  }
}

/** How many partial sums the first pass leaves for an arena. */
const partsOf = (x: Sym): number => Math.ceil(numel(x.shape) / (4 * RUN * WORKGROUP)) * WORKGROUP;

/** y = √(Σ x²) over all elements of all inputs. */
export const gradNormOp = defineOp({
  name: "gradNorm",
  shape(arenas) {
    if (arenas.length === 0) throw new AttuneError("gradNorm-arena", "gradNorm: expected at least one arena, got none");
    for (const x of arenas) checkArena("gradNorm", x);
    return [{ shape: [], dtype: "f32" }];
  },
  kernels({ inputs, outputs: [y] }) {
    const total = inputs.reduce((n, x) => n + partsOf(x), 0);
    const part = { scratch: "part", shape: [total], dtype: "f32" } as const;
    let offset = 0;
    const passes = inputs.map((x): Kernel => {
      const kernel: Kernel = {
        name: "sum_squares",
        source: squaresSource,
        constants: { WG: WORKGROUP, RUN },
        params: { n: numel(x.shape) / 4, offset },
        reads: [x],
        writes: [part],
        workgroups: grid(partsOf(x) / WORKGROUP),
        flops: 2 * numel(x.shape),
      };
      offset += partsOf(x);
      return kernel;
    });
    const last: Kernel = {
      name: "grad_norm",
      source: normSource,
      constants: { WG: WORKGROUP },
      params: { n: total },
      reads: [part],
      writes: [y],
      workgroups: [1, 1, 1],
      flops: total,
    };
    return [...passes, last];
  },
  grad: "none",
  reference: ({ args }) => {
    let sum = 0;
    for (const x of args) for (const v of x) sum += v * v;
    // Squares that overflow f32 make an infinite norm on the device; the reference agrees.
    return [Float64Array.of(Math.fround(sum) === Infinity ? Infinity : Math.sqrt(sum))];
  },
});

/** √(Σ g²) over all gradients: `[]`. Padding between parameters is zero and does not count. */
export const gradNorm = (gradients: readonly Sym[]): Sym => apply(gradNormOp, gradients, {})[0];

interface Betas {
  readonly beta1: number;
  readonly beta2: number;
}

/** Advances the clock [1 − β1^t, 1 − β2^t, t] by one step, unless the norm is not finite. */
export const adamTickOp = defineOp<Betas>({
  name: "adamTick",
  shape([clock, norm]) {
    if (!sameShape(clock.shape, [3])) {
      throw new AttuneError("adamTick-shape", `adamTick: the clock is f32[3], got ${showShape(clock.shape)}`);
    }
    checkScalars("adamTick", [norm]);
    return [];
  },
  kernels: ({ inputs: [clock, norm], attrs: { beta1, beta2 } }) => [{
    name: "adam_tick",
    source: tickSource,
    params: { rate1: { f32: 1 - beta1 }, rate2: { f32: 1 - beta2 } },
    reads: [norm],
    writes: [clock],
    workgroups: [1, 1, 1],
  }],
  grad: "none",
  reference: ({ args: [clock, [norm]], attrs: { beta1, beta2 } }) => {
    if (!Number.isFinite(norm)) return [];
    clock[0] += (1 - beta1) * (1 - clock[0]);
    clock[1] += (1 - beta2) * (1 - clock[1]);
    clock[2] += 1;
    return [];
  },
  mutates: [0],
});

export const adamTick = (clock: Variable, norm: Sym, betas: Betas): Effect =>
  applyEffect(adamTickOp, [read(clock), norm], betas);

export interface AdamWAttrs extends Betas {
  readonly eps: number;
  readonly weightDecay: number;
  /** Elements before it are decayed. */
  readonly decayEnd: number;
}

/** The update of one arena; inputs: parameters, m, v, gradients, clock, norm, learning rate, largest norm. */
export const adamwOp = defineOp<AdamWAttrs>({
  name: "adamw",
  shape([params, m, v, gradients, clock, ...scalars]) {
    checkArena("adamw", params);
    for (const x of [m, v, gradients]) {
      if (!sameShape(x.shape, params.shape)) {
        throw new AttuneError(
          "adamw-shape",
          `adamw: parameters ${showShape(params.shape)}, moment or gradient ${showShape(x.shape)}; they must be equal`,
        );
      }
    }
    if (!sameShape(clock.shape, [3])) {
      throw new AttuneError("adamw-shape", `adamw: the clock is f32[3], got ${showShape(clock.shape)}`);
    }
    checkScalars("adamw", scalars);
    return [];
  },
  kernels: ({ inputs: [params, m, v, gradients, clock, norm, learningRate, maxGradNorm], attrs }) => {
    const vectors = numel(params.shape) / 4;
    return [{
      name: "adamw",
      source: adamwSource,
      constants: { WG: WORKGROUP },
      params: {
        n: vectors,
        decayEnd: attrs.decayEnd,
        rate1: { f32: 1 - attrs.beta1 },
        beta2: { f32: attrs.beta2 },
        rate2: { f32: 1 - attrs.beta2 },
        eps: { f32: attrs.eps },
        decay: { f32: attrs.weightDecay },
      },
      reads: [gradients, clock, norm, learningRate, maxGradNorm],
      writes: [params, m, v],
      workgroups: grid(vectors / WORKGROUP),
      flops: 15 * numel(params.shape),
    }];
  },
  grad: "none",
  reference: ({ args: [params, m, v, gradients, clock, [norm], [learningRate], [maxGradNorm]], attrs }) => {
    if (!Number.isFinite(norm)) return [];
    const { beta1, beta2, eps, weightDecay, decayEnd } = attrs;
    const scale = maxGradNorm === 0 || !Number.isFinite(maxGradNorm) ? 1 : Math.min(1, maxGradNorm / (norm + 1e-6));
    for (let i = 0; i < params.length; i++) {
      const g = gradients[i] * scale;
      m[i] += (1 - beta1) * (g - m[i]);
      v[i] = beta2 * v[i] + (1 - beta2) * g * g;
      const kept = i < decayEnd ? params[i] * (1 - learningRate * weightDecay) : params[i];
      params[i] = kept - (learningRate / clock[0]) * m[i] / (Math.sqrt(v[i] / clock[1]) + eps);
    }
    return [];
  },
  mutates: [0, 1, 2],
});

/** The variables of one arena and its moments. */
export interface AdamWArena {
  readonly params: Variable;
  readonly m: Variable;
  readonly v: Variable;
  readonly gradients: Variable;
}

/** What all arenas share: the clock, the gradients' norm, and the knobs of this step (`maxGradNorm` 0 or Infinity: no clipping). */
export interface AdamWStep {
  readonly clock: Variable;
  readonly gradNorm: Sym;
  readonly learningRate: Sym;
  readonly maxGradNorm: Sym;
}

export const adamw = ({ params, m, v, gradients }: AdamWArena, step: AdamWStep, attrs: AdamWAttrs): Effect =>
  applyEffect(
    adamwOp,
    [...[params, m, v, gradients, step.clock].map(read), step.gradNorm, step.learningRate, step.maxGradNorm],
    attrs,
  );
