/**
 * The language-model head fused with what algorithms want of it: the log-probability of each target token and the
 * entropy of each distribution, without a [N, V] tensor of logits, forward or backward. The vocabulary is taken in
 * chunks: a chunk's logits are computed, folded into a few numbers a row (the online softmax of Milakov & Gimelshein
 * 2018, arXiv:1805.02867, alg. 3) and overwritten by the next chunk's. The backward pass computes them again.
 */
import { AttuneError } from "../core/errors.ts";
import { sameShape, showShape } from "../core/shape.ts";
import {
  apply,
  type Choice,
  defineOp,
  grid,
  type Kernel,
  type RefArray,
  type Scratch,
  type Spec,
} from "../graph/op.ts";
import type { Sym } from "../graph/sym.ts";
import dlogitsSource from "../../shaders/lm_head_dlogits.wgsl" with { type: "text" };
import foldSource from "../../shaders/lm_head_fold.wgsl" with { type: "text" };
import { full } from "./constants.ts";
import { matmulKernels } from "./matmul.ts";
import { packed, rowwise } from "./packs.ts";

/** The kernels keep token ids as f32, which holds integers up to here. */
const MAX_VOCAB = 2 ** 24;

/** Most logits held at a time: 64 MiB, half of what WebGPU's default limits let a kernel bind. */
const MAX_LOGITS = 2 ** 24;

/**
 * Rows of the weight that are multiplied at a time, a multiple of 64. A quarter of a small vocabulary, so that memory is
 * saved there too; at most 8192, where products are long since as fast as they get; fewer if there are many rows.
 */
export function vocabChunk(N: number, V: number): number {
  const most = Math.min(Math.ceil(V / 4), 8192, Math.floor(MAX_LOGITS / N));
  return Math.max(64, Math.ceil(most / 64) * 64);
}

interface HeadAttrs {
  /** Rows of the weight per chunk, a multiple of 64. */
  readonly chunk: number;
}

function checkShapes(hidden: Sym, weight: Sym, targets: Sym, chunk: number): number {
  const [N, C] = hidden.shape;
  const fits = hidden.shape.length === 2 && weight.shape.length === 2 && weight.shape[1] === C &&
    sameShape(targets.shape, [N]);
  if (!fits || targets.dtype !== "u32") {
    throw new AttuneError(
      "tokenLogProbs-shape",
      `tokenLogProbs: takes hidden [N, C], weight [V, C] and targets u32 [N], got ${showShape(hidden.shape)}, ${
        showShape(weight.shape)
      } and ` +
        `${targets.dtype}${showShape(targets.shape)}; flatten batch and time`,
    );
  }
  if (weight.shape[0] >= MAX_VOCAB) {
    throw new AttuneError(
      "tokenLogProbs-vocab",
      `tokenLogProbs: a vocabulary has less than ${MAX_VOCAB} tokens, got ${weight.shape[0]}`,
    );
  }
  if (!(chunk > 0 && chunk % 64 === 0)) {
    throw new AttuneError("tokenLogProbs-chunk", `tokenLogProbs: chunk is a positive multiple of 64, got ${chunk}`);
  }
  return N;
}

/** The chunks of the vocabulary: [start, size] of each. */
function chunks(V: number, chunk: number): [number, number][] {
  return Array.from({ length: Math.ceil(V / chunk) }, (_, i) => [i * chunk, Math.min(chunk, V - i * chunk)]);
}

const logitsScratch = (N: number, V: number, chunk: number): Scratch => ({
  scratch: "logits",
  shape: [N, Math.min(chunk, V)],
  dtype: "f32",
});

/** logits [N, size] = hidden · weight[start …]ᵀ */
function logitsKernel(hidden: Sym, weight: Sym, logits: Scratch, start: number, size: number): Choice {
  const [N, C] = hidden.shape;
  return matmulKernels({ a: hidden, b: weight, c: logits, m: N, n: size, k: C, transB: true, offsetB: start * C });
}

/** (hidden, weight, targets) -> logp, entropy, correct, lse, all [N]. */
export const tokenLogProbsOp = defineOp<HeadAttrs>({
  name: "tokenLogProbs",
  shape([hidden, weight, targets], { chunk }) {
    const spec: Spec = { shape: [checkShapes(hidden, weight, targets, chunk)], dtype: "f32" };
    return [spec, spec, spec, spec];
  },
  kernels({ inputs: [hidden, weight, targets], outputs, attrs: { chunk } }) {
    const [[N], [V]] = [hidden.shape, weight.shape];
    const logits = logitsScratch(N, V, chunk);
    const state: Scratch = { scratch: "state", shape: [N, 5], dtype: "f32" };
    return chunks(V, chunk).flatMap(([start, size]) => {
      const kernel = rowwise(foldSource, [N, size]);
      const fold: Kernel = {
        ...kernel,
        name: "lm_head_fold",
        constants: { ...kernel.constants, FIRST: start === 0 ? 1 : 0, LAST: start + size === V ? 1 : 0 },
        params: { ...kernel.params, n: size, start },
        reads: [logits, targets],
        writes: [state, ...outputs],
      };
      return [logitsKernel(hidden, weight, logits, start, size), fold];
    });
  },
  // correct is piecewise constant: no gradient flows through it.
  grad({ inputs: [hidden, weight, targets], outputs: [, entropy, , lse], grads, needs, attrs: { chunk } }) {
    const zero = full(lse.shape, 0);
    const [dlogp, dentropy, , dlse] = grads;
    if (dlogp === undefined && dentropy === undefined && dlse === undefined) return [];
    const inputs = [hidden, weight, targets, lse, entropy, dlogp ?? zero, dentropy ?? zero, dlse ?? zero];
    const found = [...apply(tokenLogProbsBackwardOp, inputs, { chunk, hidden: needs[0], weight: needs[1] })];
    return [needs[0] ? found.shift() : undefined, needs[1] ? found.shift() : undefined];
  },
  reference({ inputs: [hidden, weight], args: [h, w, targets] }) {
    const [[N, C], [V]] = [hidden.shape, weight.shape];
    const out = Array.from({ length: 4 }, () => new Float64Array(N));
    for (let i = 0; i < N; i++) {
      const logits = logitsRow(h, w, i, V, C);
      const largest = logits.reduce((a, b) => Math.max(a, b));
      const lse = largest + Math.log(logits.reduce((sum, x) => sum + Math.exp(x - largest), 0));
      const entropy = logits.reduce((sum, x) => sum - Math.exp(x - lse) * (x - lse), 0);
      [logits[targets[i]] - lse, entropy, logits.indexOf(largest) === targets[i] ? 1 : 0, lse].forEach((v, k) =>
        out[k][i] = v
      );
    }
    return out;
  },
});

function logitsRow(h: RefArray, w: RefArray, i: number, V: number, C: number): Float64Array {
  return Float64Array.from({ length: V }, (_, j) => {
    let sum = 0;
    for (let c = 0; c < C; c++) sum += h[i * C + c] * w[j * C + c];
    return sum;
  });
}

interface BackwardAttrs extends HeadAttrs {
  /** Whether dhidden and dweight are outputs. */
  readonly hidden: boolean;
  readonly weight: boolean;
}

/** (hidden, weight, targets, lse, entropy, dlogp, dentropy, dlse) -> [dhidden [N, C]], [dweight [V, C]]. */
export const tokenLogProbsBackwardOp = defineOp<BackwardAttrs>({
  name: "tokenLogProbsBackward",
  shape([hidden, weight, targets], attrs) {
    checkShapes(hidden, weight, targets, attrs.chunk);
    const spec = (x: Sym): Spec => ({ shape: x.shape, dtype: "f32" });
    return [...(attrs.hidden ? [spec(hidden)] : []), ...(attrs.weight ? [spec(weight)] : [])];
  },
  kernels({ inputs: [hidden, weight, ...perRow], outputs, attrs }) {
    const [[N, C], [V]] = [hidden.shape, weight.shape];
    const logits = logitsScratch(N, V, attrs.chunk);
    const dhidden = attrs.hidden ? outputs[0] : undefined;
    const dweight = attrs.weight ? outputs[attrs.hidden ? 1 : 0] : undefined;
    return chunks(V, attrs.chunk).flatMap(([start, size]) => {
      const { source, packs } = packed(dlogitsSource, size);
      const dlogits: Kernel = {
        name: "lm_head_dlogits",
        source,
        constants: { WG: 64 },
        params: { packs: N * packs, n: size, per_row: packs, start },
        reads: perRow,
        writes: [logits],
        workgroups: grid(N * packs / 64),
      };
      const kernels: (Kernel | Choice)[] = [logitsKernel(hidden, weight, logits, start, size), dlogits];
      if (dhidden !== undefined) {
        kernels.push(
          matmulKernels({
            a: logits,
            b: weight,
            c: dhidden,
            m: N,
            n: C,
            k: size,
            offsetB: start * C,
            accumulate: start > 0,
          }),
        );
      }
      if (dweight !== undefined) {
        kernels.push(
          matmulKernels({ a: logits, b: hidden, c: dweight, m: size, n: C, k: N, transA: true, offsetC: start * C }),
        );
      }
      return kernels;
    });
  },
  grad: "none",
  reference({ inputs: [hidden, weight], args: [h, w, targets, lse, entropy, dlogp, dentropy, dlse], attrs }) {
    const [[N, C], [V]] = [hidden.shape, weight.shape];
    const [dhidden, dweight] = [new Float64Array(N * C), new Float64Array(V * C)];
    for (let i = 0; i < N; i++) {
      logitsRow(h, w, i, V, C).forEach((logit, j) => {
        const logp = logit - lse[i];
        const p = Math.exp(logp);
        // dH/dlogit_j = −p_j (log p_j + H), from H = −Σ p log p and dp_k/dlogit_j = p_k (1[k = j] − p_j)
        const d = dlogp[i] * ((j === targets[i] ? 1 : 0) - p) - dentropy[i] * p * (logp + entropy[i]) + dlse[i] * p;
        for (let c = 0; c < C; c++) {
          dhidden[i * C + c] += d * w[j * C + c];
          dweight[j * C + c] += d * h[i * C + c];
        }
      });
    }
    return [...(attrs.hidden ? [dhidden] : []), ...(attrs.weight ? [dweight] : [])];
  },
});

/** What the head says of each row, all [N]. */
export interface TokenLogProbs {
  /** log softmax of the target, in nats. */
  readonly logp: Sym;
  /** −Σ p log p of the whole distribution, in nats. */
  readonly entropy: Sym;
  /** 1 where the target is the most probable token (of equals the one with the lowest id), else 0; no gradient. */
  readonly correct: Sym;
  /** log Σ exp(logits). */
  readonly lse: Sym;
}

/**
 * hidden [N, C] and weight [V, C] (logits = hidden · weightᵀ) with targets u32 [N] below V. A target outside the
 * vocabulary has the log-probability of −3e38. `chunk` overrides how many rows of the weight are taken at a time.
 * Errors: `tokenLogProbs-shape`, `tokenLogProbs-vocab`, `tokenLogProbs-chunk`.
 */
export function tokenLogProbs(
  hidden: Sym,
  weight: Sym,
  targets: Sym,
  { chunk }: { chunk?: number } = {},
): TokenLogProbs {
  const attrs = { chunk: chunk ?? vocabChunk(hidden.shape[0], weight.shape[0]) };
  const [logp, entropy, correct, lse] = apply(tokenLogProbsOp, [hidden, weight, targets], attrs);
  return { logp, entropy, correct, lse };
}
