/** The bookkeeping of generation, on the device: appends a sampled token to every row that is not finished. */
import { AttuneError } from "../core/errors.ts";
import { numel, showShape } from "../core/shape.ts";
import { applyEffect, defineOp, type Effect } from "../graph/op.ts";
import { read, type Sym, type Variable, variable, VIEW_ALIGN, viewOf } from "../graph/sym.ts";
import source from "../../shaders/advance.wgsl" with { type: "text" };

/** Per-row state, all u32 [B], held in one variable. */
export interface RowState {
  readonly all: Variable;
  /** The last token and its absolute position. */
  readonly token: Variable;
  readonly position: Variable;
  /** Tokens generated so far. */
  readonly count: Variable;
  readonly finished: Variable;
}

export function rowState(label: string, B: number): RowState {
  const stride = strideOf(B);
  const all = variable(label, [4, stride], "u32");
  const field = (i: number, name: string): Variable => viewOf(all, `${label}.${name}`, [B], i * stride);
  return {
    all,
    token: field(0, "token"),
    position: field(1, "position"),
    count: field(2, "count"),
    finished: field(3, "finished"),
  };
}

const strideOf = (B: number): number => Math.ceil(B / VIEW_ALIGN) * VIEW_ALIGN;

export const advanceOp = defineOp({
  name: "advance",
  shape([state, tokens, logps, sampled]) {
    const [B] = sampled.shape;
    if (state.shape[1] !== strideOf(B) || tokens.shape[0] !== B || showShape(tokens.shape) !== showShape(logps.shape)) {
      throw new AttuneError(
        "advance-shape",
        `advance: state ${showShape(state.shape)}, tokens ${showShape(tokens.shape)}, logps ${
          showShape(logps.shape)
        } for ${B} rows`,
      );
    }
    return [];
  },
  kernels: ({ inputs: [state, tokens, logps, sampled, logp, eos] }) => [{
    name: "advance",
    source,
    params: { B: sampled.shape[0], N: tokens.shape[1], E: numel(eos.shape), stride: state.shape[1] },
    reads: [sampled, logp, eos],
    writes: [state, tokens, logps],
    workgroups: [Math.ceil(sampled.shape[0] / 64), 1, 1],
  }],
  grad: "none",
  reference({ inputs, args: [state, tokens, logps, sampled, logp, eos] }) {
    const [stride, N] = [inputs[0].shape[1], inputs[1].shape[1]];
    for (let b = 0; b < sampled.length; b++) {
      if (state[3 * stride + b] !== 0) continue;
      const count = state[2 * stride + b];
      tokens[b * N + count] = sampled[b];
      logps[b * N + count] = logp[b];
      state[b] = sampled[b];
      state[stride + b] += 1;
      state[2 * stride + b] = count + 1;
      state[3 * stride + b] = count + 1 >= N || eos.includes(sampled[b] as never) ? 1 : 0;
    }
    return [];
  },
  mutates: [0, 1, 2],
});

/** Appends `sampled` u32 [B] and its `logp` [B] to tokens and logps [B, N]; `eos` u32 [E] lists the end tokens. */
export function advance(state: RowState, tokens: Variable, logps: Variable, sampled: Sym, logp: Sym, eos: Sym): Effect {
  return applyEffect(advanceOp, [read(state.all), read(tokens), read(logps), sampled, logp, eos], {});
}
