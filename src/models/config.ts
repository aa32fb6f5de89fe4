import { type Fields, openFields } from "./fields.ts";
import { parseJsonObject } from "./json.ts";

/** What the decoder must know of a model, whatever its config.json called it. */
export interface ModelConfig {
  /** llama: RMSNorm, rotary positions, gated MLP, no biases. gpt2: LayerNorm, learned positions, biases everywhere. */
  readonly family: "llama" | "gpt2";
  /** lm: token logits. score: one number per sequence, as a reward model gives. */
  readonly head: "lm" | "score";
  readonly vocabSize: number;
  readonly hiddenSize: number;
  readonly layers: number;
  readonly heads: number;
  /** Key and value heads: `heads / kvHeads` query heads share each. */
  readonly kvHeads: number;
  readonly headDim: number;
  readonly intermediateSize: number;
  /** Longest sequence in tokens. */
  readonly maxPositions: number;
  readonly normEps: number;
  /** Base of the rotary angles; 0 for gpt2, which has none. */
  readonly ropeTheta: number;
  /** Whether the output matrix is the embedding matrix. */
  readonly tieEmbeddings: boolean;
  /** gelu_new is the tanh approximation of GELU. */
  readonly activation: "silu" | "gelu_new";
  /** Whether the attention projections have biases: gpt2's do, llama's do not. */
  readonly attentionBias: boolean;
  readonly bosTokenId: number | undefined;
  /** Any of these ends a text; empty when the model names none. */
  readonly eosTokenIds: readonly number[];
  readonly padTokenId: number | undefined;
  /** Standard deviation of freshly drawn weights. */
  readonly initializerRange: number;
  /** How the weights are stored; they are computed with as f32. */
  readonly storedAs: StoredPrecision;
}

export type StoredPrecision = "float32" | "float16" | "bfloat16";

const PRECISIONS = ["float32", "float16", "bfloat16"] as const;

/** Output heads by the class names that transformers writes into `architectures`. */
const ARCHITECTURES = {
  llama: { LlamaForCausalLM: "lm", LlamaForSequenceClassification: "score" },
  gpt2: { GPT2LMHeadModel: "lm", GPT2ForSequenceClassification: "score" },
} as const;

/**
 * Reads a Hugging Face config.json. Fields that do not change what the model computes are ignored, as transformers
 * ignores them; those that would change it and are not implemented are refused by name. Dropout rates are ignored.
 *
 * @param name the file's name for errors
 * @throws AttuneError `config-invalid` (a missing field, a wrong type or size), `config-unsupported`
 */
export function readConfig(json: string | Uint8Array | Record<string, unknown>, name = "config.json"): ModelConfig {
  const object = typeof json === "string" || json instanceof Uint8Array
    ? parseJsonObject(json, { code: "config-invalid", name, maxDepth: 32 })
    : json;
  const fields = openFields(object, name);
  refuseCommon(fields);
  const family = fields.choice("model_type", ["llama", "gpt2"]);
  const config = family === "llama" ? readLlama(fields) : readGpt2(fields);
  checkSizes(config, fields);
  return config;
}

function readLlama(fields: Fields): ModelConfig {
  fields.require("hidden_act", "silu", { absent: true });
  fields.require("attention_bias", false, { absent: true });
  fields.require("mlp_bias", false, { absent: true });
  const heads = fields.integer("num_attention_heads", 1, 1024);
  const hiddenSize = fields.integer("hidden_size", 1, 65536);
  return {
    family: "llama",
    ...readShared(fields, "llama"),
    vocabSize: fields.integer("vocab_size", 1, MAX_VOCABULARY),
    hiddenSize,
    layers: fields.integer("num_hidden_layers", 1, 1024),
    heads,
    kvHeads: fields.optionalInteger("num_key_value_heads", 1, 1024) ?? heads,
    headDim: fields.optionalInteger("head_dim", 1, 1024) ?? hiddenSize / heads,
    intermediateSize: fields.integer("intermediate_size", 1, 2 ** 20),
    maxPositions: fields.integer("max_position_embeddings", 1, 2 ** 24),
    normEps: fields.number("rms_norm_eps", 0, 1),
    ropeTheta: readRopeTheta(fields),
    tieEmbeddings: fields.optionalBoolean("tie_word_embeddings") ?? false,
    activation: "silu",
    attentionBias: false,
  };
}

function readGpt2(fields: Fields): ModelConfig {
  // Both names mean the tanh approximation in transformers; plain "gelu" is the exact one.
  fields.choice("activation_function", ["gelu_new", "gelu_pytorch_tanh"]);
  fields.require("scale_attn_weights", true, { absent: true });
  fields.require("scale_attn_by_inverse_layer_idx", false, { absent: true });
  fields.require("add_cross_attention", false, { absent: true });
  const heads = fields.integer("n_head", 1, 1024);
  const hiddenSize = fields.integer("n_embd", 1, 65536);
  return {
    family: "gpt2",
    ...readShared(fields, "gpt2"),
    vocabSize: fields.integer("vocab_size", 1, MAX_VOCABULARY),
    hiddenSize,
    layers: fields.integer("n_layer", 1, 1024),
    heads,
    kvHeads: heads,
    headDim: hiddenSize / heads,
    intermediateSize: fields.optionalInteger("n_inner", 1, 2 ** 20) ?? 4 * hiddenSize,
    maxPositions: fields.integer("n_positions", 1, 2 ** 24),
    normEps: fields.number("layer_norm_epsilon", 0, 1),
    ropeTheta: 0,
    tieEmbeddings: fields.optionalBoolean("tie_word_embeddings") ?? true,
    activation: "gelu_new",
    attentionBias: true,
  };
}

const MAX_VOCABULARY = 2 ** 22;

function readShared(fields: Fields, family: ModelConfig["family"]) {
  return {
    head: readHead(fields, family),
    bosTokenId: fields.optionalInteger("bos_token_id", 0, MAX_VOCABULARY),
    eosTokenIds: fields.integerOrList("eos_token_id", 0, MAX_VOCABULARY) ?? [],
    padTokenId: fields.optionalInteger("pad_token_id", 0, MAX_VOCABULARY),
    initializerRange: fields.optionalNumber("initializer_range", 0, 10) ?? 0.02,
    storedAs: readPrecision(fields),
  };
}

/** Settings of other decoders: transformers would compute something else if one of them were honoured. */
function refuseCommon(fields: Fields): void {
  fields.require("quantization_config", null, { absent: true });
  fields.require("sliding_window", null, { absent: true, unless: fields.has("use_sliding_window", false) });
  fields.require("rope_interleaved", false, { absent: true });
  for (const qkNorm of ["qk_norm", "use_qk_norm", "qk_layernorm"]) fields.require(qkNorm, false, { absent: true });
  const layerTypes = fields.optionalStrings("layer_types") ?? [];
  const other = layerTypes.find((type) => type !== "full_attention");
  if (other !== undefined) throw fields.unsupported("layer_types", other, "full_attention");
}

function readHead(fields: Fields, family: ModelConfig["family"]): ModelConfig["head"] {
  const known: Record<string, ModelConfig["head"]> = ARCHITECTURES[family];
  const [architecture, ...others] = fields.optionalStrings("architectures") ?? [];
  if (others.length > 0) throw fields.unsupported("architectures", [architecture, ...others], "a single one");
  if (architecture === undefined) return "lm";
  if (!Object.hasOwn(known, architecture)) {
    throw fields.unsupported("architectures", architecture, Object.keys(known).join(", "));
  }
  if (known[architecture] === "score") {
    // transformers leaves the labels out of the file when there are two, its default.
    const labels = fields.optionalObject("id2label");
    const count = labels === undefined
      ? fields.optionalInteger("num_labels", 1, 65536) ?? 2
      : Object.keys(labels).length;
    if (count !== 1) throw fields.unsupported("num_labels", count, "1, a reward model's single score");
  }
  return known[architecture];
}

/** `dtype`, or `torch_dtype` as it was called before transformers 5. */
function readPrecision(fields: Fields): StoredPrecision {
  const key = fields.has("dtype") ? "dtype" : "torch_dtype";
  return fields.has(key) ? fields.choice(key, PRECISIONS) : "float32";
}

/** `rope_parameters.rope_theta`, or `rope_theta` and `rope_scaling` as they were called before transformers 5. */
function readRopeTheta(fields: Fields): number {
  for (const spelling of ["rope_scaling", "rope_parameters"]) {
    const rope = fields.optionalFields(spelling);
    if (rope === undefined) continue;
    for (const key of ["rope_type", "type"]) rope.require(key, "default", { absent: true });
    rope.require("partial_rotary_factor", 1, { absent: true });
    for (const key of rope.keys) {
      if (!ROPE_KEYS.includes(key)) {
        throw fields.unsupported(`${spelling}.${key}`, rope.get(key), "plain rotary positions");
      }
    }
  }
  fields.require("partial_rotary_factor", 1, { absent: true });
  const outer = fields.optionalNumber("rope_theta", 0, 1e15);
  const inner = fields.optionalFields("rope_parameters")?.optionalNumber("rope_theta", 0, 1e15);
  if (outer !== undefined && inner !== undefined && outer !== inner) {
    throw fields.invalid("rope_theta", outer, `the same number as rope_parameters.rope_theta, ${inner}`);
  }
  return inner ?? outer ?? 10000; // what transformers takes for the first Llama configs, which had no such field
}

const ROPE_KEYS = ["rope_type", "type", "rope_theta", "partial_rotary_factor"];

function checkSizes(config: ModelConfig, fields: Fields): void {
  const { family, hiddenSize, heads, kvHeads, headDim, vocabSize } = config;
  const [hiddenKey, headsKey] = family === "llama" ? ["hidden_size", "num_attention_heads"] : ["n_embd", "n_head"];
  if (!Number.isInteger(headDim)) throw fields.invalid(hiddenKey, hiddenSize, `a multiple of ${headsKey}, ${heads}`);
  if (heads % kvHeads !== 0) {
    throw fields.invalid("num_key_value_heads", kvHeads, `a divisor of num_attention_heads, ${heads}`);
  }
  if (family === "llama" && headDim % 2 !== 0) {
    throw fields.invalid("head_dim", headDim, "an even number, since rotary positions turn pairs");
  }
  const ids = { bos_token_id: config.bosTokenId, pad_token_id: config.padTokenId };
  for (const [key, id] of [...Object.entries(ids), ...config.eosTokenIds.map((id) => ["eos_token_id", id] as const)]) {
    if (id !== undefined && id >= vocabSize) throw fields.invalid(key, id, `a token below vocab_size, ${vocabSize}`);
  }
}

/**
 * The config.json that transformers reads as this model. `storedAs` says how the weights beside it are stored.
 * {@link readConfig} gives the same config back.
 */
export function toHuggingFaceConfig(config: ModelConfig, storedAs = config.storedAs): Record<string, unknown> {
  const { family, head } = config;
  const names = Object.entries(ARCHITECTURES[family]);
  return {
    architectures: names.filter(([, kind]) => kind === head).map(([name]) => name),
    model_type: family,
    ...(family === "llama" ? llamaFields(config) : gpt2Fields(config)),
    vocab_size: config.vocabSize,
    tie_word_embeddings: config.tieEmbeddings,
    initializer_range: config.initializerRange,
    ...tokenFields(config),
    ...(head === "score" ? { id2label: { "0": "LABEL_0" }, label2id: { LABEL_0: 0 } } : {}),
    // Both spellings: transformers 4 knows only the second, 5 prefers the first.
    dtype: storedAs,
    torch_dtype: storedAs,
  };
}

/** The token ids as config.json and generation_config.json hold them: null for none, a list for several. */
export function tokenFields({ bosTokenId, eosTokenIds, padTokenId }: ModelConfig): Record<string, unknown> {
  return {
    bos_token_id: bosTokenId ?? null,
    eos_token_id: eosTokenIds.length > 1 ? [...eosTokenIds] : eosTokenIds[0] ?? null,
    pad_token_id: padTokenId ?? null,
  };
}

const llamaFields = (config: ModelConfig): Record<string, unknown> => ({
  hidden_size: config.hiddenSize,
  num_hidden_layers: config.layers,
  num_attention_heads: config.heads,
  num_key_value_heads: config.kvHeads,
  head_dim: config.headDim,
  intermediate_size: config.intermediateSize,
  max_position_embeddings: config.maxPositions,
  rms_norm_eps: config.normEps,
  rope_parameters: { rope_theta: config.ropeTheta, rope_type: "default" },
  rope_theta: config.ropeTheta,
  hidden_act: config.activation,
  attention_bias: false,
  mlp_bias: false,
  attention_dropout: 0,
});

// Dropout is off in training here, and a model that is trained further elsewhere should start from the same.
const gpt2Fields = (config: ModelConfig): Record<string, unknown> => ({
  n_embd: config.hiddenSize,
  n_layer: config.layers,
  n_head: config.heads,
  n_inner: config.intermediateSize,
  n_positions: config.maxPositions,
  layer_norm_epsilon: config.normEps,
  activation_function: config.activation,
  attn_pdrop: 0,
  embd_pdrop: 0,
  resid_pdrop: 0,
});
