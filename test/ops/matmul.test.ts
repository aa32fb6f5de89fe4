import { describe, expect, it } from "vitest";
import { input } from "../../src/graph/sym.ts";
import { matmul, matmulOp } from "../../src/ops/matmul.ts";
import { checkOp } from "../support/check-op.ts";

describe("matmul", () => {
  for (const transA of [false, true]) {
    for (const transB of [false, true]) {
      const layout = `${transA ? "T" : "N"}${transB ? "T" : "N"}`;
      const a = (m: number, k: number): number[] => transA ? [k, m] : [m, k];
      const b = (k: number, n: number): number[] => transB ? [n, k] : [k, n];
      const attrs = { transA, transB };
      checkOp(matmulOp, [
        { name: `${layout} 5x7x3`, inputs: [a(5, 3), b(3, 7)], attrs },
        { name: `${layout} 16x24x8`, inputs: [a(16, 8), b(8, 24)], attrs },
        { name: `${layout} 36x40x8 (whole quads and parts)`, inputs: [a(36, 8), b(8, 40)], attrs },
        { name: `${layout} 1x9x4`, inputs: [a(1, 4), b(4, 9)], attrs },
        { name: `${layout} 9x1x4 with bias`, inputs: [a(9, 4), b(4, 1), [1]], attrs },
        { name: `${layout} with bias`, inputs: [a(6, 4), b(4, 10), [10]], attrs },
        { name: `${layout} batched`, inputs: [[2, ...a(3, 4)], [2, ...b(4, 5)]], attrs },
        { name: `${layout} shared b`, inputs: [[2, 3, ...a(3, 4)], b(4, 5)], attrs },
        { name: `${layout} shared a`, inputs: [a(3, 4), [2, ...b(4, 5)]], attrs },
      ]);
    }
  }

  it("says which sizes differ", () => {
    expect(() => matmul(input("a", [4, 8]), input("b", [6, 2]))).toThrow(
      "matmul: inner sizes or batches differ, got [4,8] · [6,2]; transpose b?",
    );
  });
});
