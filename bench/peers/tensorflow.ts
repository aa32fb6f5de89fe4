/** TensorFlow.js on its WebGPU backend. */
import "@tensorflow/tfjs-backend-webgpu";
import * as tf from "@tensorflow/tfjs-core";
import type { Product } from "../figures/matmul.ts";
import type { Contender } from "../measure.ts";

export async function tensorflowMatmul(
  { size, a, b, check }: Product,
): Promise<Contender> {
  await tf.setBackend("webgpu");
  await tf.ready();
  const [x, y] = [tf.tensor2d(a, [size, size]), tf.tensor2d(b, [size, size])];
  const release = [x, y];
  let product: tf.Tensor2D | undefined;
  return {
    name: "tensorflow.js",
    async run() {
      product?.dispose();
      product = tf.matMul<tf.Tensor2D>(x, y);
      // It has no other way to wait for the device: one element comes back.
      const corner = tf.slice(product, [0, 0], [1, 1]);
      await corner.data();
      corner.dispose();
    },
    async check() {
      check("tensorflow.js", await product?.data() ?? []);
    },
    close: () => tf.dispose([...release, ...(product ? [product] : [])]),
  };
}
