/** The identity, through which no gradient flows. */
import { apply, defineOp } from "../graph/op.ts";
import type { Sym } from "../graph/sym.ts";

export const stopGradientOp = defineOp({
  name: "stopGradient",
  shape: ([x]) => [{ shape: x.shape, dtype: x.dtype }],
  kernels: "view",
  grad: () => [],
  reference: ({ args: [x] }) => [x],
});

export const stopGradient = (x: Sym): Sym => apply(stopGradientOp, [x], {})[0];
