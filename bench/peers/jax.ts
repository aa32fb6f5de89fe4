/** jax-js on its WebGPU backend. Its arrays are counted by hand: an array is used up where it is passed, unless as `.ref`. */
import { blockUntilReady, defaultDevice, init, numpy as np } from "@jax-js/jax";
import { AttuneError } from "../../src/core/errors.ts";
import type { Product } from "../figures/matmul.ts";
import type { Contender } from "../measure.ts";

/** Makes the GPU the device of all arrays to come. */
export async function useGpu(): Promise<void> {
  const devices = await init("webgpu");
  if (!devices.includes("webgpu")) {
    throw new AttuneError("bench-peer", "jax-js found no WebGPU adapter here");
  }
  defaultDevice("webgpu");
}

export async function jaxMatmul(
  { size, a, b, check }: Product,
): Promise<Contender> {
  await useGpu();
  const [x, y] = [a, b].map((data) => np.array(data).reshape([size, size]));
  let product: np.Array | undefined;
  return {
    name: "jax-js",
    async run() {
      product?.dispose();
      product = np.matmul(x.ref, y.ref);
      await blockUntilReady(product);
    },
    async check() {
      check("jax-js", await product?.ref.data() ?? []);
    },
    close() {
      for (const array of [x, y, product]) array?.dispose();
    },
  };
}
