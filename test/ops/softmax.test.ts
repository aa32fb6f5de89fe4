import { describe, expect, it } from "vitest";
import { input } from "../../src/graph/sym.ts";
import { logSoftmax, logSoftmaxOp, softmax, softmaxBackwardOp, softmaxOp } from "../../src/ops/softmax.ts";
import { checkOp } from "../support/check-op.ts";

const shapes = [[1, 1], [7], [5, 3], [2, 3, 50], [9, 132]];

for (const op of [softmaxOp, logSoftmaxOp]) {
  describe(op.name, () => {
    checkOp(op, [
      ...shapes.map((s) => ({ name: `[${s}]`, inputs: [s], attrs: {} })),
      { name: "logits around ±80", inputs: [[4, 37]], attrs: {}, map: (x: number) => 80 * Math.sign(x) + x },
      { name: "logits far from 0", inputs: [[4, 37]], attrs: {}, map: (x: number) => x - 3000 },
    ]);
    // Forward only: central differences would take 150,000 evaluations. Sums of 150,000 f32 terms keep about 1e-5.
    const long = [150_000, 150_001].map((V) => ({
      name: `a vocabulary of ${V}`,
      inputs: [[2, V]],
      attrs: {},
      differentiate: [],
    }));
    checkOp(op, long, { forward: 1e-5 });
  });
}

describe("their backward kernels", () => {
  checkOp(softmaxBackwardOp, [
    { name: "softmax [3,2500]", inputs: [[3, 2500], [3, 2500]], attrs: { log: false } },
    {
      name: "log softmax [3,2500]",
      inputs: [[3, 2500], [3, 2500]],
      attrs: { log: true },
      map: (x: number, i: number) => i === 0 ? x - 8 : x,
    },
  ]);

  it("refuses scalars", () => {
    expect(() => softmax(input("x", []))).toThrow("softmax: runs over the last axis, got a scalar");
    expect(() => logSoftmax(input("x", []))).toThrow("logSoftmax: runs over the last axis, got a scalar");
  });
});
