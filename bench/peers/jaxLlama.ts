/** bench-1m in jax-js, as its own documentation would have it: one jitted function for the step, the update plain SGD. */
import { blockUntilReady, jit, nn, numpy as np, tree, valueAndGrad } from "@jax-js/jax";
import type { Tensor } from "../../src/core/shape.ts";
import { AttuneError } from "../../src/core/errors.ts";
import type { ModelConfig } from "../../src/models/config.ts";
import { lossRecord, type TrainingTask } from "../figures/trainStep.ts";
import type { Contender, Host } from "../measure.ts";
import { useGpu } from "./jax.ts";

// jax-js's trees are typed as aliases, not as interfaces.
type Layer = Record<
  "norm1" | "q" | "k" | "v" | "o" | "norm2" | "gate" | "up" | "down",
  np.Array
>;
type Params = { embedding: np.Array; layers: Layer[]; norm: np.Array };
type Rotary = { cos: np.Array; sin: np.Array };

const LEARNING_RATE = 0.5;

export async function jaxTrainStep(
  config: ModelConfig,
  { weights, rows }: TrainingTask,
  host: Host,
): Promise<Contender> {
  await useGpu();
  const [B, T] = [rows.length, rows[0].length - 1];
  let params = load(config, weights);
  const rotary = rotaryTables(config, T);
  const tokens = (from: number) => {
    const ids = rows.flatMap((row) => row.slice(from, from + T));
    return np.array(Int32Array.from(ids), { dtype: np.int32 }).reshape([B, T]);
  };
  const [inputs, targets] = [tokens(0), tokens(1)];
  const losses = lossRecord("jax-js");

  // Its embedding by index trains through an atomic add that Deno's shader compiler refuses.
  const loss = lossFunction(config, host === "deno" ? "one-hot" : "index");
  const step = jit(
    (p: Params, x: np.Array, y: np.Array, r: Rotary): [np.Array, Params] => {
      const [value, grads] = valueAndGrad(loss)(tree.ref(p), x, y, r);
      const updated = tree.map(
        (w: np.Array, dw: np.Array) => w.sub(dw.mul(LEARNING_RATE)),
        p,
        grads,
      ) as Params;
      return [value, updated];
    },
  );
  return {
    name: "jax-js",
    async run() {
      const [value, updated] = step(
        params,
        inputs.ref,
        targets.ref,
        tree.ref(rotary),
      );
      params = updated;
      await blockUntilReady(params);
      losses.push((await value.data())[0]);
    },
    check: () => Promise.resolve(losses.check()),
    close: () => tree.dispose([params, rotary, inputs, targets]),
  };
}

/** Hugging Face's tensors; linear weights become [in, out], which jax-js multiplies without a transpose. */
function load(
  { layers }: ModelConfig,
  weights: TrainingTask["weights"],
): Params {
  const get = (name: string): np.Array => {
    const tensor = weights.get(name);
    if (tensor === undefined) {
      throw new AttuneError("bench-peer", `no weights for ${name}`);
    }
    return np.array((tensor as Tensor<Float32Array<ArrayBuffer>>).data).reshape(
      [...tensor.shape],
    );
  };
  const linear = (name: string): np.Array => np.array(np.transpose(get(`${name}.weight`)));
  return {
    embedding: get("model.embed_tokens.weight"),
    layers: Array.from({ length: layers }, (_, i): Layer => {
      const at = `model.layers.${i}`;
      return {
        norm1: get(`${at}.input_layernorm.weight`),
        q: linear(`${at}.self_attn.q_proj`),
        k: linear(`${at}.self_attn.k_proj`),
        v: linear(`${at}.self_attn.v_proj`),
        o: linear(`${at}.self_attn.o_proj`),
        norm2: get(`${at}.post_attention_layernorm.weight`),
        gate: linear(`${at}.mlp.gate_proj`),
        up: linear(`${at}.mlp.up_proj`),
        down: linear(`${at}.mlp.down_proj`),
      };
    }),
    norm: get("model.norm.weight"),
  };
}

function rotaryTables({ headDim, ropeTheta }: ModelConfig, T: number): Rotary {
  const half = headDim / 2;
  const table = (f: (angle: number) => number): np.Array => {
    const values = Float32Array.from(
      { length: T * half },
      (_, i) => f(Math.floor(i / half) * ropeTheta ** (-(i % half) / half)),
    );
    return np.array(values).reshape([T, 1, half]);
  };
  return { cos: table(Math.cos), sin: table(Math.sin) };
}

/** Mean cross-entropy of x, y [B, T] under the parameters. */
function lossFunction(config: ModelConfig, lookup: "index" | "one-hot") {
  const { vocabSize: V, hiddenSize: C, heads: H, headDim: D, normEps } = config;

  const rmsNorm = (x: np.Array, weight: np.Array): np.Array => {
    const meanSquare = np.mean(np.square(x.ref), -1, { keepdims: true });
    return x.mul(np.reciprocal(np.sqrt(meanSquare.add(normEps)))).mul(weight);
  };
  const rope = (x: np.Array, { cos, sin }: Rotary): np.Array => {
    const [a, b] = np.split(x, 2, -1);
    const turned = [
      a.ref.mul(cos.ref).sub(b.ref.mul(sin.ref)),
      b.mul(cos).add(a.mul(sin)),
    ];
    return np.concatenate(turned, -1);
  };
  const block = (x: np.Array, p: Layer, rotary: Rotary): np.Array => {
    const [B, T] = x.shape;
    const n1 = rmsNorm(x.ref, p.norm1);
    const project = (w: np.Array): np.Array => np.matmul(n1.ref, w).reshape([B, T, H, D]);
    const q = rope(project(p.q), tree.ref(rotary));
    const k = rope(project(p.k), rotary);
    const attended = nn.dotProductAttention(q, k, project(p.v), {
      isCausal: true,
    }); // [B, T, H, D]
    n1.dispose();
    const y = x.add(np.matmul(attended.reshape([B, T, C]), p.o));
    const n2 = rmsNorm(y.ref, p.norm2);
    const gated = nn.silu(np.matmul(n2.ref, p.gate)).mul(np.matmul(n2, p.up));
    return y.add(np.matmul(gated, p.down));
  };

  return (p: Params, x: np.Array, y: np.Array, rotary: Rotary): np.Array => {
    const table = p.embedding.ref;
    let h = lookup === "index" ? np.take(table, x, 0) : np.matmul(nn.oneHot(x, V), table); // [B, T, C]
    for (const layer of p.layers) h = block(h, layer, tree.ref(rotary));
    tree.dispose(rotary);
    const logits = np.matmul(rmsNorm(h, p.norm), np.transpose(p.embedding)); // [B, T, V]
    return np.mean(nn.logSoftmax(logits, -1).mul(nn.oneHot(y, V)).sum(-1))
      .neg();
  };
}
