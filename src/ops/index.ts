/** The catalogue: every op by name, for tests and tools. */
import type { Op } from "../graph/op.ts";
import { constant } from "../graph/sym.ts";
import { accumulateOp, assignOp } from "./assign.ts";
import { add, binaryOps, expandOp } from "./binary.ts";
import { ones } from "./constants.ts";
import { maxOverOp, sumOp } from "./reduce.ts";
import { padOp, reshapeOp, sliceOp } from "./shape.ts";
import { unaryOps } from "./unary.ts";

// deno-lint-ignore no-explicit-any
export const catalogue: readonly Op<any>[] = [
  ...Object.values(unaryOps),
  ...Object.values(binaryOps),
  expandOp,
  sumOp,
  maxOverOp,
  reshapeOp,
  sliceOp,
  padOp,
  assignOp,
  accumulateOp,
];

/** The ops that differentiation itself needs. */
export const gradOps = { add, one: () => ones([]), constant };
