/** A 1024³ product of f32 matrices: the arithmetic that training consists of. */
import { AttuneError } from "../../src/core/errors.ts";
import { Rng } from "../../src/core/rng.ts";
import { read, variable } from "../../src/graph/sym.ts";
import { assign } from "../../src/ops/assign.ts";
import { matmul } from "../../src/ops/matmul.ts";
import type { GpuBackend } from "../../src/plan/compile.ts";
import type { Contender, Figure } from "../measure.ts";

const SIZE = 1024;

export const matmulFigure: Figure = {
  name: "matmul-1024",
  title: `matmul ${SIZE} x ${SIZE} x ${SIZE}, f32`,
  unit: "GFLOP/s",
  work: 2 * SIZE ** 3 / 1e9,
  async contenders(backend, host) {
    const product = randomProduct();
    const { jaxMatmul } = await import("../peers/jax.ts");
    const peers = [await jaxMatmul(product)];
    // TensorFlow.js looks for its canvas, so it runs in pages alone.
    if (host === "chromium") {
      peers.push(
        await (await import("../peers/tensorflow.ts")).tensorflowMatmul(
          product,
        ),
      );
    }
    return { ours: await oursMatmul(backend, product), peers };
  },
};

/** C = A · B of square matrices, and how to see whether some C is it. */
export interface Product {
  readonly size: number;
  readonly a: Float32Array<ArrayBuffer>;
  readonly b: Float32Array<ArrayBuffer>;
  /** Throws unless c is A · B. */
  check(name: string, c: ArrayLike<number>): void;
}

function randomProduct(): Product {
  const rng = new Rng(1);
  const draw = () => Float32Array.from({ length: SIZE ** 2 }, () => rng.normal());
  const [a, b] = [draw(), draw()];
  return {
    size: SIZE,
    a,
    b,
    check(name, c) {
      for (let place = 0; place < SIZE ** 2; place += 4099) { // a prime step, so that all rows and columns have their turn
        const [m, n] = [Math.floor(place / SIZE), place % SIZE];
        let sum = 0;
        for (let k = 0; k < SIZE; k++) sum += a[m * SIZE + k] * b[k * SIZE + n];
        // 1024 products of normal draws: f32 sums of them are off by about 1e-5, a wrong term by about 1.
        if (!(Math.abs(c[place] - sum) < 1e-3)) {
          throw new AttuneError(
            "bench-wrong",
            `${name}: element [${m}, ${n}] of the product is ${c[place]}, expected ${sum}`,
          );
        }
      }
    },
  };
}

async function oursMatmul(
  backend: GpuBackend,
  { size, a, b, check }: Product,
): Promise<Contender> {
  const [A, B, C] = ["a", "b", "c"].map((name) => variable(name, [size, size]));
  backend.upload(A, a);
  backend.upload(B, b);
  const plan = await backend.compile("matmul", {
    outputs: {},
    effects: [assign(C, matmul(read(A), read(B)))],
  });
  return {
    name: "attune",
    async run() {
      await plan.run({});
      // A plan without outputs has nothing to wait for.
      await backend.gpu.device.queue.onSubmittedWorkDone();
    },
    async check() {
      check("attune", await backend.download(C));
    },
    close: () => backend.free([A, B, C]),
  };
}
