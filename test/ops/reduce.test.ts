import { describe } from "vitest";
import { maxOverOp, sumOp } from "../../src/ops/reduce.ts";
import { padOp, reshapeOp, sliceOp } from "../../src/ops/shape.ts";
import { checkOp } from "../support/check-op.ts";

describe("reductions", () => {
  const cases = [
    { name: "last of [3,7]", inputs: [[3, 7]], attrs: { axis: 1 } },
    { name: "last of [2,300]", inputs: [[2, 300]], attrs: { axis: 1 } },
    { name: "middle of [2,40,3]", inputs: [[2, 40, 3]], attrs: { axis: 1 } },
    { name: "first of [130,20] (two passes)", inputs: [[130, 20]], attrs: { axis: 0 } },
    { name: "first of [5,3]", inputs: [[5, 3]], attrs: { axis: 0 } },
  ];
  checkOp(sumOp, cases);
  checkOp(maxOverOp, cases);
});

describe("shape ops", () => {
  checkOp(reshapeOp, [{ name: "[2,6] to [3,4]", inputs: [[2, 6]], attrs: { shape: [3, 4] } }]);
  checkOp(sliceOp, [
    { name: "rows", inputs: [[5, 3]], attrs: { axis: 0, start: 1, length: 3 } },
    { name: "columns", inputs: [[2, 5, 3]], attrs: { axis: 1, start: 2, length: 2 } },
  ]);
  checkOp(padOp, [
    { name: "rows", inputs: [[2, 3]], attrs: { axis: 0, start: 1, length: 5 } },
    { name: "columns", inputs: [[2, 2, 3]], attrs: { axis: 1, start: 0, length: 4 } },
  ]);
});
