/** softmax and its logarithm over the last axis, one row-wise kernel each way. */
import { AttuneError } from "../core/errors.ts";
import { last, sameShape, showShape } from "../core/shape.ts";
import { apply, defineOp, type Op } from "../graph/op.ts";
import type { Sym } from "../graph/sym.ts";
import backwardSource from "../../shaders/softmax_backward.wgsl" with { type: "text" };
import source from "../../shaders/softmax.wgsl" with { type: "text" };
import { rowwise } from "./packs.ts";

const kernelName = (log: boolean): string => log ? "log_softmax" : "softmax";

function forwardOp(name: string, log: boolean): Op {
  return defineOp({
    name,
    shape([x]) {
      if (x.shape.length === 0) {
        throw new AttuneError(`${name}-shape`, `${name}: runs over the last axis, got a scalar; reshape it to [1]`);
      }
      return [{ shape: x.shape, dtype: "f32" }];
    },
    kernels({ inputs: [x], outputs: [y] }) {
      const kernel = rowwise(source, x.shape);
      return [{
        ...kernel,
        name: kernelName(log),
        constants: { ...kernel.constants, LOG: log ? 1 : 0 },
        reads: [x],
        writes: [y],
      }];
    },
    grad: ({ outputs: [y], grads: [dy] }) => dy === undefined ? [] : [...apply(softmaxBackwardOp, [y, dy], { log })],
    reference({ inputs, args: [x] }) {
      const C = last(inputs[0].shape);
      const y = new Float64Array(x.length);
      for (let start = 0; start < x.length; start += C) {
        let [largest, sum] = [-Infinity, 0];
        for (let c = 0; c < C; c++) largest = Math.max(largest, x[start + c]);
        for (let c = 0; c < C; c++) sum += Math.exp(x[start + c] - largest);
        for (let c = 0; c < C; c++) {
          const logp = x[start + c] - largest - Math.log(sum);
          y[start + c] = log ? logp : Math.exp(logp);
        }
      }
      return [y];
    },
  });
}

/** (y, dy) -> dx, where y is the softmax, or with `log` its logarithm. */
export const softmaxBackwardOp = defineOp<{ readonly log: boolean }>({
  name: "softmaxBackward",
  shape([y, dy]) {
    if (!sameShape(y.shape, dy.shape)) {
      throw new AttuneError(
        "softmaxBackward-shape",
        `softmaxBackward: y and dy have one shape, got ${showShape(y.shape)} and ${showShape(dy.shape)}`,
      );
    }
    return [{ shape: y.shape, dtype: "f32" }];
  },
  kernels({ inputs: [y, dy], outputs: [dx], attrs: { log } }) {
    const kernel = rowwise(backwardSource, y.shape);
    const constants = { ...kernel.constants, LOG: log ? 1 : 0 };
    return [{ ...kernel, name: `${kernelName(log)}_backward`, constants, reads: [y, dy], writes: [dx] }];
  },
  grad: "none",
  reference({ inputs, args: [y, dy], attrs: { log } }) {
    const C = last(inputs[0].shape);
    const dx = new Float64Array(y.length);
    for (let start = 0; start < y.length; start += C) {
      let sum = 0;
      for (let c = 0; c < C; c++) sum += log ? dy[start + c] : dy[start + c] * y[start + c];
      for (let c = 0; c < C; c++) {
        const i = start + c;
        dx[i] = log ? dy[i] - Math.exp(y[i]) * sum : y[i] * (dy[i] - sum);
      }
    }
    return [dx];
  },
});

export const softmaxOp = forwardOp("softmax", false);
export const logSoftmaxOp = forwardOp("logSoftmax", true);

/** exp(x) / Σ exp(x) over the last axis of x [..., C]; no overflow for large x. Errors: `softmax-shape`. */
export const softmax = (x: Sym): Sym => apply(softmaxOp, [x], {})[0];

/** log softmax(x) over the last axis of x [..., C], without the loss of digits of log(softmax(x)). Errors: `logSoftmax-shape`. */
export const logSoftmax = (x: Sym): Sym => apply(logSoftmaxOp, [x], {})[0];
