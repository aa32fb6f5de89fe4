/** Reads Hugging Face tokenizers (tokenizer.json with tokenizer_config.json) through @huggingface/tokenizers. */
import { Tokenizer as HuggingFaceTokenizer } from "@huggingface/tokenizers";
import { AttuneError } from "../core/errors.ts";

export interface Tokenizer {
  /** The ids of a text, without special tokens around it; a special token spelled out in the text becomes its id. */
  encode(text: string): number[];
  /** The text of ids, leaving out special tokens and ids that no token has (a model may have more rows than tokens). */
  decode(ids: readonly number[]): string;
  /** The token with this id as it is spelled in the vocabulary, or undefined. */
  token(id: number): string | undefined;
  /** The id of a token by its spelling, or undefined. */
  idOf(token: string): number | undefined;
  isSpecial(id: number): boolean;
  /** One more than the largest id. */
  readonly vocabSize: number;
  readonly eosTokenId: number;
  /** The padding token, or the end-of-text token when none is named: padding is masked by position, so any id serves. */
  readonly padTokenId: number;
}

const modelTypes = ["BPE", "Unigram", "WordPiece"];

/**
 * Loads a tokenizer from the contents of the two files, as text or parsed.
 *
 * @throws AttuneError `tokenizer-invalid` for files that are not what they should be, or name no end-of-text token
 */
export function loadTokenizer(tokenizerJson: string | object, tokenizerConfigJson: string | object): Tokenizer {
  const json = parseObject(tokenizerJson, "tokenizer.json");
  const config = parseObject(tokenizerConfigJson, "tokenizer_config.json");
  if (!isObject(json.model)) throw invalid("tokenizer.json: expected an object in `model`");
  // Files from before the field existed have no type; the library then goes by the model's other fields.
  const { type } = json.model;
  if (type !== undefined && !modelTypes.includes(String(type))) {
    throw invalid(`tokenizer.json: expected a model of type ${modelTypes.join(", ")}; got ${JSON.stringify(type)}`);
  }
  const inner = build(json, config);

  const vocab = inner.get_vocab(true);
  const added = inner.get_added_tokens_decoder();
  const ids = [...vocab.values(), ...added.keys()];
  const tokens = new Map([...vocab].map(([token, id]) => [id, token]));
  const special = new Set([...added].filter(([, token]) => token.special).map(([id]) => id));

  const idOf = (token: string) => vocab.get(token);
  const named = (field: string): number | undefined => {
    const name = nameOf(config[field]);
    if (name === undefined) return undefined;
    const id = idOf(name);
    if (id === undefined) {
      throw invalid(`tokenizer_config.json: ${field} ${JSON.stringify(name)} is not in the vocabulary`);
    }
    return id;
  };
  const eosTokenId = named("eos_token");
  if (eosTokenId === undefined) {
    throw invalid("tokenizer_config.json: expected `eos_token`, the token that ends a text");
  }
  special.add(eosTokenId);

  return {
    encode: (text) => text === "" ? [] : inner.encode(text, { add_special_tokens: false }).ids,
    decode: (ids) => {
      const shown = ids.filter((id) => tokens.has(id) && !special.has(id));
      if (shown.length === 0) return "";
      return inner.decode(shown, { skip_special_tokens: true, clean_up_tokenization_spaces: false });
    },
    token: (id) => tokens.get(id),
    idOf,
    isSpecial: (id) => special.has(id),
    vocabSize: ids.reduce((most, id) => Math.max(most, id + 1), 0),
    eosTokenId,
    padTokenId: named("pad_token") ?? eosTokenId,
  };
}

function build(json: object, config: object): HuggingFaceTokenizer {
  try {
    return new HuggingFaceTokenizer(json, config);
  } catch (cause) {
    throw invalid(`tokenizer.json cannot be read: ${cause instanceof Error ? cause.message : cause}`, cause);
  }
}

function parseObject(source: string | object, file: string): Record<string, unknown> {
  let value: unknown = source;
  if (typeof source === "string") {
    try {
      value = JSON.parse(source);
    } catch (cause) {
      throw invalid(`${file} is not JSON: ${cause instanceof Error ? cause.message : cause}`, cause);
    }
  }
  if (!isObject(value)) {
    throw invalid(`${file}: expected an object, got ${Array.isArray(value) ? "an array" : typeof value}`);
  }
  return value;
}

/** A special token is written as its text or as an object with `content`. */
function nameOf(value: unknown): string | undefined {
  const text = isObject(value) ? value.content : value;
  return typeof text === "string" ? text : undefined;
}

const isObject = (value: unknown): value is Record<string, unknown> =>
  typeof value === "object" && value !== null && !Array.isArray(value);

const invalid = (message: string, cause?: unknown): AttuneError =>
  new AttuneError("tokenizer-invalid", message, { cause });
