import { Template } from "@huggingface/jinja";
import { describe, expect, it } from "vitest";
import { trainBpe } from "../../src/data/bpe.ts";
import {
  chatTemplate,
  decodeCompletion,
  encodeCompletion,
  encodePrompt,
  encodeRow,
  encodeTextRows,
  specialTokens,
  tokenizerConfig,
  withWholeSequence,
} from "../../src/data/format.ts";
import { exchanges } from "../../src/data/tasks/world.ts";
import { loadTokenizer } from "../../src/data/tokenizer.ts";
import { readText } from "../support/files.ts";

const rows = exchanges({ seed: 1, split: "train", count: 4000 });
const json = trainBpe(rows.map((row) => ` ${row.prompt} ${row.completion}`), {
  vocabSize: 512,
  specialTokens: Object.values(specialTokens),
});
const config = tokenizerConfig(64);
const tokenizer = loadTokenizer(JSON.stringify(json), JSON.stringify(config));

const golden = async (name: string) => {
  const [tokenizerJson, configJson, expected] = await Promise.all(
    ["tokenizer.json", "tokenizer_config.json", "expected.json"].map((file) =>
      readText(`test/golden/tokenizers/${name}/${file}`)
    ),
  );
  return { tokenizer: loadTokenizer(tokenizerJson, configJson), expected: JSON.parse(expected) };
};

describe("loadTokenizer", () => {
  it.each(["gpt2-bpe", "smollm-bpe"])("encodes and decodes as transformers does: %s", async (name) => {
    const { tokenizer, expected } = await golden(name);
    expect(tokenizer.vocabSize).toBe(expected.vocab_size);
    expect(tokenizer.eosTokenId).toBe(expected.special_ids.eos_token);
    expect(tokenizer.padTokenId).toBe(expected.special_ids.pad_token);
    expect(expected.strings.length).toBeGreaterThan(60);
    for (const { text, ids_plain, tokens, decoded_skip_special } of expected.strings) {
      const ids = tokenizer.encode(text);
      expect(ids, text).toEqual(ids_plain);
      expect(ids.map(tokenizer.token)).toEqual(tokens);
      expect(tokenizer.decode(ids)).toBe(decoded_skip_special);
    }
  });

  it("knows its special tokens", () => {
    expect([tokenizer.eosTokenId, tokenizer.padTokenId, tokenizer.vocabSize]).toEqual([0, 1, 512]);
    expect(tokenizer.idOf("<|user|>")).toBe(2);
    expect(tokenizer.idOf("no such token")).toBeUndefined();
    expect([0, 1, 2, 3, 4].map(tokenizer.isSpecial)).toEqual([true, true, true, true, false]);
    const { pad_token: _, ...noPad } = config;
    expect(loadTokenizer(json, noPad).padTokenId).toBe(0);
  });

  it("decodes without special tokens and without ids that have no token", () => {
    const hi = tokenizer.encode("Hi there");
    expect(tokenizer.decode([2, ...hi, 700, 0, 1, 1])).toBe("Hi there");
    expect(tokenizer.decode([0, 1, 700])).toBe("");
    expect(tokenizer.decode([])).toBe("");
  });

  it("names what is wrong with a file", () => {
    const failure = (a: string | object, b: string | object) => {
      try {
        loadTokenizer(a, b);
      } catch (error) {
        return error instanceof Error ? `${"code" in error ? error.code : ""} ${error.message}` : "";
      }
      return "no error";
    };
    expect(failure("{", config)).toMatch(/^tokenizer-invalid tokenizer.json is not JSON: /);
    expect(failure("[]", config)).toMatch(/expected an object, got an array/);
    expect(failure("{}", config)).toMatch(/expected an object in `model`/);
    expect(failure({ ...json, model: { type: "Guess", vocab: {} } }, config)).toMatch(
      /^tokenizer-invalid .* BPE, Unigram, WordPiece; got "Guess"$/,
    );
    expect(failure({ ...json, model: { type: "BPE" } }, config)).toMatch(/^tokenizer-invalid tokenizer.json cannot/);
    expect(failure(json, {})).toMatch(/expected `eos_token`/);
    expect(failure(json, { eos_token: "<eos>" })).toMatch(/eos_token "<eos>" is not in the vocabulary/);
    expect(failure(json, { eos_token: { content: "<|pad|>" } })).toBe("no error");
  });
});

describe("format", () => {
  const { prompt, completion } = rows[0];

  it("joins prompt and completion without moving a token boundary", () => {
    for (const row of rows.slice(0, 500)) {
      const { promptIds, completionIds } = encodeRow(tokenizer, row.prompt, row.completion);
      const joined = `<|user|> ${row.prompt}<|assistant|> ${row.completion}<|endoftext|>`;
      expect([...promptIds, ...completionIds]).toEqual(tokenizer.encode(joined));
      expect(decodeCompletion(tokenizer, completionIds)).toBe(row.completion);
    }
  });

  it("gives the ids of the chat template", () => {
    const template = new Template(chatTemplate);
    const text = (messages: { role: string; content: string }[], more: boolean) =>
      template.render({ messages, eos_token: "<|endoftext|>", add_generation_prompt: more });
    const user = { role: "user", content: ` ${prompt}\n` };
    const assistant = { role: "assistant", content: completion };
    expect(tokenizer.encode(text([user], true))).toEqual(encodePrompt(tokenizer, prompt));
    const whole = encodeRow(tokenizer, prompt, completion);
    expect(tokenizer.encode(text([user, assistant], false))).toEqual([...whole.promptIds, ...whole.completionIds]);
    expect(() => text([{ role: "system", content: "" }], false)).toThrow(/Unknown role/);
  });

  it("keeps the replies of the world short", () => {
    const encoded = exchanges({ seed: 1, split: "heldout", count: 10_000 }).map((row) =>
      encodeRow(tokenizer, row.prompt, row.completion)
    );
    const most = (lengths: number[]) => lengths.reduce((a, b) => Math.max(a, b));
    expect(most(encoded.map((row) => row.promptIds.length))).toBeLessThanOrEqual(16);
    expect(most(encoded.map((row) => row.completionIds.length))).toBeLessThanOrEqual(48);
    const tokens = encoded.reduce((sum, row) => sum + row.completionIds.length, 0);
    expect(tokens / encoded.length).toBeGreaterThan(17);
    expect(tokens / encoded.length).toBeLessThan(22);
    // The same word is one token at the start of a reply and later in it.
    expect(
      encodeCompletion(tokenizer, "The lake is so calm. The").filter((id) => tokenizer.token(id) === "ĠThe").length,
    )
      .toBe(2);
  });

  it("leaves texts as they are for a tokenizer without chat tokens", async () => {
    const { tokenizer: plain } = await golden("gpt2-bpe");
    expect(encodePrompt(plain, " a prompt ")).toEqual(plain.encode(" a prompt "));
    expect(encodeCompletion(plain, " yes")).toEqual([...plain.encode(" yes"), plain.eosTokenId]);
    expect(decodeCompletion(plain, encodeCompletion(plain, " yes"))).toBe(" yes");
  });

  it("stops decoding at the first end of text", () => {
    const ids = [...encodeCompletion(tokenizer, "It is calm."), ...tokenizer.encode(" more")];
    expect(decodeCompletion(tokenizer, ids)).toBe("It is calm.");
  });

  it("refuses text that spells a special token", () => {
    expect(() => encodePrompt(tokenizer, "hello <|assistant|> yes")).toThrow(/holds the special token <\|assistant\|>/);
    expect(() => encodeCompletion(tokenizer, "a<|endoftext|>b")).toThrow(/<\|endoftext\|>/);
  });

  it("cuts long texts into windows that predict each token once", () => {
    const text = rows.slice(0, 9).map((row) => row.completion).join(" ");
    const ids = [0, ...tokenizer.encode(text), 0];
    for (const maxLength of [2, 16, ids.length - 1, ids.length, 999]) {
      const windows = encodeTextRows(tokenizer, text, maxLength);
      expect(windows.flatMap((row) => row.completionIds)).toEqual(ids.slice(1));
      for (const row of windows) expect(1 + row.completionIds.length).toBeLessThanOrEqual(maxLength);
      const before = windows.map((row) => row.promptIds[0]);
      expect(before.slice(1)).toEqual(
        windows.slice(0, -1).map((row) => row.completionIds[row.completionIds.length - 1]),
      );
    }
  });

  it("moves a prompt into the loss", () => {
    expect(withWholeSequence({ promptIds: [2, 9, 3], completionIds: [7, 0] })).toEqual({
      promptIds: [2],
      completionIds: [9, 3, 7, 0],
    });
  });
});
