/**
 * Drawing the next token of each row, on the device: temperature, top-k, top-p, min-p, repetition penalty, and
 * Gumbel-max noise that depends on (seed, row, position) alone. Per-row settings are inputs: greedy and sampled rows
 * share a batch.
 */
import { AttuneError } from "../core/errors.ts";
import { type DType, type Shape, showShape } from "../core/shape.ts";
import { apply, applyEffect, defineOp, type Effect, grid, type Kernel, type RefArray } from "../graph/op.ts";
import { read, type Sym, type Variable, variable } from "../graph/sym.ts";
import rng from "../../shaders/common/rng.wgsl" with { type: "text" };
import filterSource from "../../shaders/sample_filter.wgsl" with { type: "text" };
import markSource from "../../shaders/mark_seen.wgsl" with { type: "text" };
import settingsSource from "../../shaders/sample_settings.wgsl" with { type: "text" };
import sampleSource from "../../shaders/sample.wgsl" with { type: "text" };
import { drawToken, SAMPLING_STREAM } from "./sampleReference.ts";

/** What a draw depends on beside the logits; [B] each, meanings as in {@link RowSettings}. */
export interface SampleInputs {
  readonly temperature: Sym;
  /** u32 */
  readonly topK: Sym;
  readonly topP: Sym;
  readonly minP: Sym;
  readonly repetitionPenalty: Sym;
  /** The tokens that the repetition penalty applies to: u32 [B, ⌈V/32⌉] bits, see {@link seenSet}. */
  readonly seen: Sym;
  /** u32, [1] for all rows or [B]. */
  readonly seed: Sym;
  /** u32: what tells rows apart, wherever they stand in the batch. */
  readonly row: Sym;
  /** u32: what tells the draws of one row apart. */
  readonly position: Sym;
}

const ORDER = ["temperature", "topK", "topP", "minP", "repetitionPenalty", "seen", "seed", "row", "position"] as const;
const U32: readonly string[] = ["topK", "seen", "seed", "row", "position"];

/** Words that hold one bit per token. */
const wordsFor = (V: number): number => Math.ceil(V / 32);

/** Few invocations for short rows, where joining their results costs more than it saves. */
const invocations = (V: number): number => V <= 1024 ? 8 : V <= 16_384 ? 64 : 256;

function checkInputs([logits, ...settings]: readonly Sym[]): void {
  const [B, V] = logits.shape;
  if (logits.shape.length !== 2 || logits.dtype !== "f32" || V === 0) {
    throw new AttuneError(
      "sample-shape",
      `sample: logits are f32 [B, V], got ${logits.dtype}${showShape(logits.shape)}`,
    );
  }
  ORDER.forEach((name, i) => {
    const { shape, dtype } = settings[i];
    const allowed: Shape[] = name === "seen" ? [[B, wordsFor(V)]] : name === "seed" ? [[1], [B]] : [[B]];
    const wanted: DType = U32.includes(name) ? "u32" : "f32";
    if (dtype === wanted && allowed.some((a) => showShape(a) === showShape(shape))) return;
    throw new AttuneError(
      "sample-shape",
      `sample: ${name} is ${wanted}${allowed.map(showShape).join(" or ")} for logits ${
        showShape(logits.shape)
      }, got ${dtype}${showShape(shape)}`,
    );
  });
}

/** Inputs: logits [B, V], then those of {@link SampleInputs} in order. Outputs: token u32 [B], logp [B], sampledLogp [B]. */
export const sampleOp = defineOp({
  name: "sample",
  shape(inputs) {
    checkInputs(inputs);
    const shape = [inputs[0].shape[0]];
    return [{ shape, dtype: "u32" }, { shape, dtype: "f32" }, { shape, dtype: "f32" }];
  },
  kernels({ inputs: [logits, temperature, topK, topP, minP, penalty, seen, seed, row, position], outputs }): Kernel[] {
    const [B, V] = logits.shape;
    const settings = { scratch: "settings", shape: [B, 7], dtype: "u32" } as const;
    const rows = { scratch: "rows", shape: [B, 4], dtype: "f32" } as const;
    const WG = invocations(V);
    return [{
      name: "sample_settings",
      source: settingsSource,
      constants: { WG: 64 },
      params: { B, seedStride: seed.shape[0] === B ? 1 : 0 },
      reads: [temperature, topK, topP, minP, penalty, seed, row],
      writes: [settings],
      workgroups: [Math.ceil(B / 64), 1, 1],
    }, {
      name: "sample_filter",
      source: filterSource,
      constants: { WG },
      params: { B, V },
      reads: [logits, settings, seen],
      writes: [rows],
      workgroups: grid(B),
    }, {
      name: "sample",
      source: rng + sampleSource,
      constants: { WG, STREAM: SAMPLING_STREAM },
      params: { B, V },
      reads: [logits, settings, rows, seen, position],
      writes: outputs,
      workgroups: grid(B),
    }];
  },
  grad: "none",
  reference({ inputs, args: [logits, temperature, topK, topP, minP, penalty, seen, seed, row, position] }) {
    const [B, V] = inputs[0].shape;
    const out: [Uint32Array, Float64Array, Float64Array] = [
      new Uint32Array(B),
      new Float64Array(B),
      new Float64Array(B),
    ];
    for (let b = 0; b < B; b++) {
      const settings = {
        temperature: temperature[b],
        topK: topK[b],
        topP: topP[b],
        minP: minP[b],
        repetitionPenalty: penalty[b],
      };
      const key = { seed: seed[b % seed.length], row: row[b], position: position[b] };
      const drawn = drawToken(
        logits.subarray(b * V, (b + 1) * V),
        settings,
        key,
        (v) => hasBit(seen, b * wordsFor(V), v),
      );
      [out[0][b], out[1][b], out[2][b]] = [drawn.token, drawn.logp, drawn.sampledLogp];
    }
    return out;
  },
});

export interface Sampled {
  /** u32 [B] */
  readonly token: Sym;
  /** log-probability of the token under the softmax of the raw logits, at temperature 1: what training recomputes. [B] */
  readonly logp: Sym;
  /** The same under the distribution that it was drawn from, all filters applied; 0 for greedy rows. [B] */
  readonly sampledLogp: Sym;
}

/** Draws one token per row of `logits` [B, V]. Errors: `sample-shape`. */
export function sample(logits: Sym, settings: SampleInputs): Sampled {
  const [token, logp, sampledLogp] = apply(sampleOp, [logits, ...ORDER.map((name) => settings[name])], {});
  return { token, logp, sampledLogp };
}

/** A variable for the tokens that each of B rows holds, as bits: u32 [B, ⌈V/32⌉]. It starts empty. */
export const seenSet = (label: string, B: number, V: number): Variable => variable(label, [B, wordsFor(V)], "u32");

const hasBit = (bits: RefArray, offset: number, token: number): boolean =>
  (bits[offset + (token >>> 5)] >>> (token & 31) & 1) === 1;

/** Sets the bits of `tokens` u32 [B] (below 32 · words) in the rows where `finished` u32 [B] is 0. */
export const markSeenOp = defineOp({
  name: "markSeen",
  shape([seen, tokens, finished]) {
    const fits = seen.shape.length === 2 &&
      [tokens, finished].every((s) => showShape(s.shape) === showShape([seen.shape[0]]));
    if (!fits || [seen, tokens, finished].some((s) => s.dtype !== "u32")) {
      const came = [seen, tokens, finished].map((s) => `${s.dtype}${showShape(s.shape)}`).join(", ");
      throw new AttuneError("markSeen-shape", `markSeen: takes u32 [B, words], [B] and [B], got ${came}`);
    }
    return [];
  },
  kernels: ({ inputs: [seen, tokens, finished] }) => [{
    name: "mark_seen",
    source: markSource,
    constants: { WG: 64 },
    params: { B: tokens.shape[0], words: seen.shape[1] },
    reads: [tokens, finished],
    writes: [seen],
    workgroups: [Math.ceil(tokens.shape[0] / 64), 1, 1],
  }],
  grad: "none",
  reference({ inputs, args: [seen, tokens, finished] }) {
    tokens.forEach((token, b) => {
      if (finished[b] === 0) seen[b * inputs[0].shape[1] + (token >>> 5)] |= 1 << (token & 31);
    });
    return [];
  },
  mutates: [0],
});

/** Adds each row's token to its set, except for finished rows. */
export const markSeen = (seen: Variable, tokens: Sym, finished: Sym): Effect =>
  applyEffect(markSeenOp, [read(seen), tokens, finished], {});
