/** A model: its configuration, its parameters as variables of a backend, and the function that runs them. */
import { assert, AttuneError } from "../core/errors.ts";
import { Rng } from "../core/rng.ts";
import { numel, type Tensor, type TensorData } from "../core/shape.ts";
import { type ParameterSet, parameterSet, type Scope } from "../graph/parameters.ts";
import type { Variable } from "../graph/sym.ts";
import type { Backend } from "../plan/backend.ts";
import type { ModelConfig } from "./config.ts";
import { decoder, type Net } from "./decoder.ts";
import { parameterShapes } from "./parameters.ts";

export interface Model {
  readonly config: ModelConfig;
  readonly parameters: ParameterSet;
  net(scope: Scope): Net;
}

export type Weights = ReadonlyMap<string, Tensor<Float32Array>>;

/** A model with the given weights on the backend. `label` names its memory: "policy", "reference", "reward". */
export function createModel(backend: Backend, config: ModelConfig, weights: Weights, label: string): Model {
  const parameters = parameterSet(label, parameterShapes(config));
  for (const [name, view] of parameters.views) {
    const tensor = weights.get(name);
    if (tensor === undefined) throw new AttuneError("model-weights", `${label}: no weights for ${name}`);
    backend.upload(view, tensor.data);
  }
  return { config, parameters, net: (scope) => decoder(config, scope) };
}

/**
 * Fresh weights as transformers draws them: normal with `initializerRange`, biases 0, norm weights 1; GPT-2 scales the
 * projections into the residual stream by 1/√(2·layers). A parameter's draw depends on the seed and its place alone.
 */
export function initialWeights(config: ModelConfig, seed: number): Weights {
  const residual = config.initializerRange / Math.sqrt(2 * config.layers);
  return new Map(
    parameterShapes(config).map(({ name, shape, decay }, i) => {
      const rng = new Rng(seed, 1 + i);
      const std = config.family === "gpt2" && name.endsWith("c_proj.weight") ? residual : config.initializerRange;
      const draw = decay ? () => std * rng.normal() : name.endsWith("bias") ? () => 0 : () => 1;
      return [name, { shape, data: Float32Array.from({ length: numel(shape) }, draw) }];
    }),
  );
}

/** The weights as they stand on the backend. */
export async function downloadWeights(backend: Backend, { parameters }: Model): Promise<Weights> {
  // One readback per arena: each costs Deno some ten milliseconds of polling.
  const arenas = new Map<Variable, TensorData>();
  for (const { variable } of parameters.arenas) arenas.set(variable, await backend.download(variable));
  const weights = new Map<string, Tensor<Float32Array>>();
  for (const [name, { shape, view }] of parameters.views) {
    const arena = view && arenas.get(view.base);
    assert(view !== undefined && arena !== undefined, `parameter ${name} is in no arena`);
    weights.set(name, { shape, data: Float32Array.from(arena.subarray(view.offset, view.offset + numel(shape))) });
  }
  return weights;
}
