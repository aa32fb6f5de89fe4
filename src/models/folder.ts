import { AttuneError } from "../core/errors.ts";
import type { Tensor } from "../core/shape.ts";
import { type ModelConfig, readConfig, type StoredPrecision, toHuggingFaceConfig, tokenFields } from "./config.ts";
import { openFields } from "./fields.ts";
import { brief, decodeUtf8, isJsonObject, parseJsonObject } from "./json.ts";
import { checkTensors, parameterName, parameterShapes } from "./parameters.ts";
import { type RawTensor, readSafetensors, toFloat32 } from "./safetensors.ts";
import { type FloatDType, writeSafetensors } from "./safetensors-write.ts";

/** Files by name: a folder on disk, a URL's, a browser store's. `read` gives undefined for a file that is not there. */
export interface Reader {
  /** The place, as a reader of an error knows it. */
  readonly describe: string;
  read(name: string): Promise<Uint8Array | undefined>;
}

/** A model as a Hugging Face folder holds it. */
export interface ModelFolder {
  readonly config: ModelConfig;
  /** Every parameter of `parameterShapes(config)`, in that order. */
  readonly tensors: ReadonlyMap<string, Tensor<Float32Array>>;
  /** The texts of the tokenizer's files that are there, by file name (tokenizer.json, tokenizer_config.json …). */
  readonly tokenizerFiles: ReadonlyMap<string, string>;
}

const TOKENIZER_FILES = [
  "tokenizer.json",
  "tokenizer_config.json",
  "special_tokens_map.json",
  "chat_template.jinja",
];

const SINGLE = "model.safetensors";
const INDEX = "model.safetensors.index.json";

/**
 * Reads a model folder: config.json, generation_config.json when there, the weights (one file, or shards with an
 * index) and the tokenizer's files when there.
 *
 * @throws AttuneError `model-config-missing`, `model-weights-missing`, `model-index`, `model-tensors`, and those of
 *   {@link readConfig} and {@link readSafetensors}
 */
export async function loadFolder(reader: Reader): Promise<ModelFolder> {
  const config = await loadConfig(reader);
  const stored = await loadWeights(reader, config.family);
  const shapes = parameterShapes(config);
  checkTensors(shapes, stored.values(), reader.describe);
  const tensors = new Map<string, Tensor<Float32Array>>();
  for (const { name, shape } of shapes) {
    const raw = stored.get(name);
    if (raw !== undefined) tensors.set(name, { shape, data: toFloat32(raw) });
  }
  const tokenizerFiles = new Map<string, string>();
  for (const name of TOKENIZER_FILES) {
    const bytes = await reader.read(name);
    const where = `${reader.describe}/${name}`;
    if (bytes !== undefined) tokenizerFiles.set(name, decodeUtf8(bytes, { code: "tokenizer-invalid", name: where }));
  }
  return { config, tensors, tokenizerFiles };
}

/** Reads config.json; generation_config.json, when there, says what ends a text. */
export async function loadConfig(reader: Reader): Promise<ModelConfig> {
  const bytes = await reader.read("config.json");
  if (bytes === undefined) {
    throw new AttuneError(
      "model-config-missing",
      `${reader.describe}: no config.json; expected a Hugging Face folder with config.json and ${SINGLE} or ${INDEX}`,
    );
  }
  const config = readConfig(bytes, `${reader.describe}/config.json`);
  const generation = await reader.read("generation_config.json");
  if (generation === undefined) return config;
  const name = `${reader.describe}/generation_config.json`;
  const fields = openFields(parseJsonObject(generation, { code: "config-invalid", name, maxDepth: 32 }), name);
  const last = config.vocabSize - 1;
  return {
    ...config,
    eosTokenIds: fields.integerOrList("eos_token_id", 0, last) ?? config.eosTokenIds,
    bosTokenId: config.bosTokenId ?? fields.optionalInteger("bos_token_id", 0, last),
    padTokenId: config.padTokenId ?? fields.optionalInteger("pad_token_id", 0, last),
  };
}

/** All stored tensors, under the names of `parameterShapes`. */
async function loadWeights(reader: Reader, family: ModelConfig["family"]): Promise<Map<string, RawTensor>> {
  const tensors = new Map<string, RawTensor>();
  const add = (raw: RawTensor, file: string): void => {
    const name = parameterName(family, raw.name);
    if (tensors.has(name)) {
      throw new AttuneError("model-tensors", `${reader.describe}: ${name} occurs twice, again in ${file}; remove one`);
    }
    tensors.set(name, { ...raw, name });
  };

  const single = await reader.read(SINGLE);
  if (single !== undefined) {
    for (const raw of readSafetensors(single, `${reader.describe}/${SINGLE}`).values()) add(raw, SINGLE);
    return tensors;
  }
  for (const [file, names] of await readIndex(reader)) {
    const bytes = await reader.read(file);
    if (bytes === undefined) throw noWeights(reader, `${file}, which ${INDEX} names, is not there`);
    const shard = readSafetensors(bytes, `${reader.describe}/${file}`);
    const absent = names.filter((name) => !shard.has(name));
    if (absent.length > 0) throw badIndex(reader, `${file} lacks ${brief(absent, 400)}`, "a shard that holds them");
    for (const raw of shard.values()) add(raw, file);
  }
  return tensors;
}

/** The tensors that the index expects in each shard. */
async function readIndex(reader: Reader): Promise<Map<string, string[]>> {
  const bytes = await reader.read(INDEX);
  if (bytes === undefined) throw noWeights(reader, `neither ${SINGLE} nor ${INDEX} is there`);
  const index = parseJsonObject(bytes, { code: "model-index", name: `${reader.describe}/${INDEX}`, maxDepth: 8 });
  const map = index["weight_map"];
  if (!isJsonObject(map)) throw badIndex(reader, `weight_map is ${brief(map)}`, "an object of tensor and file names");
  const shards = new Map<string, string[]>();
  for (const [name, file] of Object.entries(map)) {
    // A file of the same folder: an index must not reach elsewhere.
    if (typeof file !== "string" || !/^[\w-][\w.-]*\.safetensors$/.test(file)) {
      throw badIndex(
        reader,
        `weight_map ${brief(name)} is ${brief(file)}`,
        "the name of a .safetensors file beside it",
      );
    }
    const names = shards.get(file);
    if (names === undefined) shards.set(file, [name]);
    else names.push(name);
  }
  return shards;
}

function noWeights(reader: Reader, what: string): AttuneError {
  const advice = "only safetensors are read; save other formats again with transformers' save_pretrained";
  return new AttuneError("model-weights-missing", `${reader.describe}: ${what}; ${advice}`);
}

function badIndex(reader: Reader, what: string, expected: string): AttuneError {
  return new AttuneError("model-index", `${reader.describe}/${INDEX}: ${what}, expected ${expected}; fetch it again`);
}

const FILE_DTYPES: Record<StoredPrecision, FloatDType> = { float32: "F32", float16: "F16", bfloat16: "BF16" };

/**
 * The files of a model folder that transformers loads, as bytes by name. Weights are rounded to `storedAs`.
 *
 * @throws AttuneError `model-tensors`, `safetensors-overflow`
 */
export function folderFiles(model: ModelFolder, storedAs: StoredPrecision = "float32"): Map<string, Uint8Array> {
  const { config, tensors, tokenizerFiles } = model;
  const entries = [...tensors].map(([name, { shape, data }]) => ({ name, shape, data, dtype: FILE_DTYPES[storedAs] }));
  checkTensors(parameterShapes(config), entries, "model");
  const encode = (text: string) => new TextEncoder().encode(text);
  const json = (value: unknown) => encode(JSON.stringify(value, null, 2) + "\n");
  return new Map([
    ["config.json", json(toHuggingFaceConfig(config, storedAs))],
    ["generation_config.json", json(tokenFields(config))],
    [SINGLE, writeSafetensors(entries)],
    ...[...tokenizerFiles].map(([name, text]) => [name, encode(text)] as const),
  ]);
}
