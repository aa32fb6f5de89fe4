import { describe, expect, it } from "vitest";
import { input } from "../../src/graph/sym.ts";
import { swiglu, swigluBackwardOp, swigluOp } from "../../src/ops/swiglu.ts";
import { checkOp } from "../support/check-op.ts";

describe("swiglu", () => {
  const shapes = [[3, 71], [2, 3, 64], [1]];
  checkOp(swigluOp, shapes.map((s) => ({ name: `[${s}]`, inputs: [s, s], attrs: {} })));
  // exp of the gate overflows f32 from 88 on.
  checkOp(swigluOp, [{
    name: "gates up to ±100",
    inputs: [[5, 13], [5, 13]],
    attrs: {},
    map: (x, i) => i === 0 ? 40 * x : x,
  }]);
  checkOp(swigluBackwardOp, [
    ...shapes.map((s) => ({ name: `[${s}]`, inputs: [s, s, s], attrs: {} })),
    {
      name: "gates up to ±100",
      inputs: [[5, 13], [5, 13], [5, 13]],
      attrs: {},
      map: (x: number, i: number) => i === 0 ? 40 * x : x,
    },
  ]);

  it("says which shapes differ", () => {
    expect(() => swiglu(input("gate", [2, 3]), input("up", [3, 2]))).toThrow(
      "swiglu: gate and up have one shape, got [2,3] and [3,2]",
    );
  });
});
