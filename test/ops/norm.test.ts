import { describe, expect, it } from "vitest";
import { gradients } from "../../src/graph/grad.ts";
import { input } from "../../src/graph/sym.ts";
import { mul } from "../../src/ops/binary.ts";
import { gradOps } from "../../src/ops/index.ts";
import {
  addLayerNormOp,
  addRmsNorm,
  addRmsNormOp,
  layerNorm,
  layerNormOp,
  normBackwardOp,
  rmsNorm,
  rmsNormOp,
} from "../../src/ops/norm.ts";
import { sumAll } from "../../src/ops/reduce.ts";
import { checkOp, expectClose, normal } from "../support/check-op.ts";
import { testGpu } from "../support/backends.ts";

const eps = 1e-5;
/** One row, fewer columns than lanes, ragged sizes, more rows than one segment of the weight gradient. */
const shapes = [[1, 1], [1, 70], [5, 3], [2, 3, 52], [67, 4]];

describe("RMS norm", () => {
  checkOp(rmsNormOp, shapes.map((x) => ({ name: `[${x}]`, inputs: [x, x.slice(-1)], attrs: { eps } })));
  checkOp(rmsNormOp, [
    {
      name: "rows near zero, where eps counts",
      inputs: [[3, 17], [17]],
      attrs: { eps },
      map: (x, i) => i === 0 ? 3e-3 * x : x,
    },
    { name: "large rows", inputs: [[3, 17], [17]], attrs: { eps }, map: (x, i) => i === 0 ? 1e3 * x : x },
  ]);
  checkOp(addRmsNormOp, shapes.map((x) => ({ name: `[${x}]`, inputs: [x, x, x.slice(-1)], attrs: { eps } })));
});

describe("layer norm", () => {
  const row = (x: number[]): number[] => x.slice(-1);
  checkOp(layerNormOp, shapes.slice(1).map((x) => ({ name: `[${x}]`, inputs: [x, row(x), row(x)], attrs: { eps } })));
  // f32 keeps 1e-6 of a row whose mean is ten times its deviation.
  checkOp(layerNormOp, [{
    name: "mean far from 0",
    inputs: [[4, 33], [33], [33]],
    attrs: { eps },
    map: (x, i) => i === 0 ? x + 10 : x,
  }], { forward: 1e-5 });
  checkOp(
    addLayerNormOp,
    shapes.slice(1).map((x) => ({ name: `[${x}]`, inputs: [x, x, row(x), row(x)], attrs: { eps } })),
  );
});

describe("their backward kernels", () => {
  for (const layer of [false, true]) {
    const name = layer ? "layer" : "rms";
    checkOp(normBackwardOp, [
      { name: `${name}, x alone`, inputs: [[7, 33], [33], [7, 33]], attrs: { eps, layer, weights: false } },
      { name: `${name}, two segments`, inputs: [[70, 33], [33], [70, 33]], attrs: { eps, layer, weights: true } },
      {
        name: `${name}, rows of 2100`,
        inputs: [[3, 2100], [2100], [3, 2100], [3, 2100]],
        attrs: { eps, layer, weights: true },
      },
    ]);
  }

  it("passes the sum's gradient through where the normed output is unused, and the norm's where the sum is", async () => {
    const [x, residual, weight] = [input("x", [2, 5]), input("residual", [2, 5]), input("weight", [5])];
    const { sum, normed } = addRmsNorm(x, residual, weight, eps);
    const [fromSum] = gradients(sumAll(mul(sum, sum)), [x], gradOps);
    const [fromNormed] = gradients(sumAll(mul(normed, x)), [residual], gradOps);
    const apart = rmsNorm(gradOps.add(x, residual), weight, eps);
    const [expected] = gradients(sumAll(mul(apart, x)), [residual], gradOps);
    const values = { x: normal([2, 5], 1), residual: normal([2, 5], 2), weight: normal([5], 3) };
    const plan = await (await testGpu()).compile("addRmsNorm", {
      outputs: { fromSum, fromNormed, expected, sum },
      effects: [],
    });
    const got = await plan.run(values);
    expectClose(got.fromSum, Array.from(got.sum, (v) => 2 * v), 1e-6, "d Σ sum² / dx = 2 sum");
    expect(got.fromNormed).toEqual(got.expected);
  });

  it("names the shapes that do not fit", () => {
    expect(() => rmsNorm(input("x", [2, 8]), input("w", [4]), eps)).toThrow(
      "rmsNorm: takes x [..., C], weight [C], got [2,8], [4]",
    );
    expect(() => layerNorm(input("x", [2, 8]), input("w", [8]), input("b", [2]), eps)).toThrow(
      /layerNorm: .*got \[2,8\], \[8\], \[2\]/,
    );
  });
});
