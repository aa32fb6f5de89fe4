/** From rows of text to what algorithms train on, checked against the model's context before anything runs. */
import { assert, AttuneError } from "../core/errors.ts";
import { checkPromptLength } from "../data/batch.ts";
import { encodeCompletion, encodePrompt, encodeRow, encodeTextRows } from "../data/format.ts";
import type { CompletionRow, PreferenceRow, PreferenceTokenRow, PromptRow, TextRow, TokenRow } from "../data/rows.ts";
import { loadTokenizer, type Tokenizer } from "../data/tokenizer.ts";
import type { ModelFolder } from "../models/folder.ts";
import { sha256 } from "../storage/checked.ts";
import type { RunConfig, TrainingData } from "./algorithms.ts";

/** The tokenizer of a model folder, or undefined when it has none. @throws AttuneError `tokenizer-invalid` */
export function tokenizerOf({ tokenizerFiles }: Pick<ModelFolder, "tokenizerFiles">): Tokenizer | undefined {
  const [tokenizer, config] = [tokenizerFiles.get("tokenizer.json"), tokenizerFiles.get("tokenizer_config.json")];
  return tokenizer === undefined || config === undefined ? undefined : loadTokenizer(tokenizer, config);
}

/** As {@link tokenizerOf}. @throws AttuneError `tokenizer-missing` when it has none */
export function requireTokenizer(folder: Pick<ModelFolder, "tokenizerFiles">, name: string): Tokenizer {
  const tokenizer = tokenizerOf(folder);
  if (tokenizer !== undefined) return tokenizer;
  throw new AttuneError(
    "tokenizer-missing",
    `${name}: texts need tokenizer.json and tokenizer_config.json, which are not there; add them`,
  );
}

/** Rows of prompts and completions, of plain texts (cut into windows of the context) and of token ids, for SFT. */
export function completionData(
  tokenizer: Tokenizer,
  rows: readonly (CompletionRow | TextRow | TokenRow)[],
  maxLength: number,
): TrainingData {
  return {
    kind: "completions",
    rows: rows.flatMap((row) =>
      "text" in row
        ? encodeTextRows(tokenizer, row.text, maxLength)
        : "promptIds" in row
        ? [row]
        : [encodeRow(tokenizer, row.prompt, row.completion)]
    ),
  };
}

/** Preference pairs for DPO and reward models. */
export function preferenceData(tokenizer: Tokenizer, rows: readonly PreferenceRow[]): TrainingData {
  const encode = ({ prompt, chosen, rejected }: PreferenceRow): PreferenceTokenRow => ({
    promptIds: encodePrompt(tokenizer, prompt),
    chosenIds: encodeCompletion(tokenizer, chosen),
    rejectedIds: encodeCompletion(tokenizer, rejected),
  });
  return { kind: "preferences", rows: rows.map(encode) };
}

/** Prompts for algorithms that write the completions themselves. */
export const promptData = (rows: readonly PromptRow[]): TrainingData => ({
  kind: "prompts",
  rows: rows.map(({ prompt }) => prompt),
});

/**
 * Refuses rows that would fail in the middle of a run.
 *
 * @throws AttuneError `prompt-too-long`, `data-too-few`, `text-special-token`
 */
export function checkData(
  data: TrainingData,
  config: RunConfig,
  maxLength: number,
  tokenizer: Tokenizer | undefined,
): void {
  const needed = config.perDeviceTrainBatchSize * config.gradientAccumulationSteps;
  if (data.rows.length < needed) {
    throw new AttuneError(
      "data-too-few",
      `expected at least one batch of ${needed} rows, got ${data.rows.length}; add rows, or lower the batch size`,
    );
  }
  if (data.kind !== "prompts") {
    for (const [i, { promptIds }] of data.rows.entries()) checkPromptLength(promptIds.length, maxLength, i);
    return;
  }
  assert(
    tokenizer !== undefined && typeof config.maxCompletionLength === "number",
    "prompts come with a tokenizer and a completion length",
  );
  for (const [i, prompt] of data.rows.entries()) {
    const length = encodePrompt(tokenizer, prompt).length;
    if (length === 0) {
      throw new AttuneError(
        "prompt-empty",
        `row ${i}: expected a prompt of at least one token, got an empty one; remove the row`,
      );
    }
    if (length + config.maxCompletionLength <= maxLength) continue;
    throw new AttuneError(
      "prompt-too-long",
      `row ${i}: a prompt of ${length} tokens and ${config.maxCompletionLength} new ones do not fit the context of ${maxLength}; shorten the prompt or lower maxCompletionLength`,
    );
  }
}

/** SHA-256 of the rows as they are trained on. */
export const dataSum = ({ kind, rows }: TrainingData): Promise<string> =>
  sha256(new TextEncoder().encode(JSON.stringify({ kind, rows })));

/** SHA-256 of the names, shapes and SHA-256 sums of all weights. */
export async function weightsSum({ tensors }: Pick<ModelFolder, "tensors">): Promise<string> {
  const lines: string[] = [];
  for (const [name, { shape, data }] of tensors) {
    lines.push(`${name} [${shape}] ${await sha256(new Uint8Array(data.buffer, data.byteOffset, data.byteLength))}\n`);
  }
  return await sha256(new TextEncoder().encode(lines.join("")));
}
