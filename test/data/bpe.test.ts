import { describe, expect, it } from "vitest";
import { Rng } from "../../src/core/rng.ts";
import { trainBpe } from "../../src/data/bpe.ts";
import { byteAlphabet, wordPattern } from "../../src/data/byteLevel.ts";
import { specialTokens, tokenizerConfig } from "../../src/data/format.ts";
import { exchanges } from "../../src/data/tasks/world.ts";
import { loadTokenizer } from "../../src/data/tokenizer.ts";

const special = Object.values(specialTokens);
const corpus = exchanges({ seed: 1, split: "train", count: 300 }).map((row) => `${row.prompt} ${row.completion}`);
const mixed = [...corpus, "naïve café, 日本語 日本 日本語!", "it's they're 12 123 123\n\n  two", "aaaa aaa aaaaa aaaa"];

/** BPE as in the paper: every pair of every word occurrence is counted again for every merge. */
function naiveMerges(texts: string[], vocab: Record<string, number>, count: number): [string, string][] {
  const words = texts.flatMap((text) => [...text.matchAll(wordPattern)].map(([piece]) => toBytes(piece)));
  const ids = new Map(Object.entries(vocab));
  const id = (token: string) => ids.get(token) ?? NaN;
  const merges: [string, string][] = [];
  while (merges.length < count) {
    const counts = new Map<string, number>();
    for (const word of words) {
      for (let i = 0; i + 1 < word.length; i++) {
        const pair = `${word[i]} ${word[i + 1]}`;
        counts.set(pair, (counts.get(pair) ?? 0) + 1);
      }
    }
    const [best] = [...counts].sort(([a, n], [b, m]) => {
      const [a0, a1] = a.split(" "), [b0, b1] = b.split(" ");
      return m - n || id(a0) - id(b0) || id(a1) - id(b1);
    });
    const [left, right] = best[0].split(" ");
    merges.push([left, right]);
    words.forEach((word) => applyMerge(word, left, right));
  }
  return merges;
}

function applyMerge(word: string[], left: string, right: string): void {
  for (let i = 0; i + 1 < word.length; i++) {
    if (word[i] === left && word[i + 1] === right) word.splice(i, 2, left + right);
  }
}

const toBytes = (text: string) => [...new TextEncoder().encode(text)].map((byte) => byteAlphabet[byte]);

describe("byte alphabet", () => {
  it("has a different character for each byte, in GPT-2's places", () => {
    expect(new Set(byteAlphabet).size).toBe(256);
    expect(byteAlphabet[0x20]).toBe("Ġ");
    expect(byteAlphabet[0x0a]).toBe("Ċ");
    expect(byteAlphabet[0x41]).toBe("A");
    expect(byteAlphabet[0x7f]).toBe("ġ"); // the 34th unprintable byte: 0x100 + 33
    expect(byteAlphabet[0xad]).toBe("Ń");
  });
});

describe("trainBpe", () => {
  const json = trainBpe(mixed, { vocabSize: 340, specialTokens: special });

  it("finds the merges of a naive implementation", () => {
    expect(json.model.merges.length).toBe(80);
    expect(json.model.merges).toEqual(naiveMerges(mixed, json.model.vocab, 80));
  });

  it("numbers special tokens, bytes and merges in turn", () => {
    const { vocab, merges } = json.model;
    expect(special.map((token) => vocab[token])).toEqual([0, 1, 2, 3]);
    expect(byteAlphabet.map((char) => vocab[char]).sort((a, b) => a - b)).toEqual(
      Array.from({ length: 256 }, (_, i) => i + 4),
    );
    merges.forEach(([left, right], i) => expect(vocab[left + right]).toBe(260 + i));
    expect(Object.keys(vocab).length).toBe(340);
  });

  it("is the same for the same texts, and stops when no pair is left", () => {
    expect(JSON.stringify(trainBpe(mixed, { vocabSize: 340, specialTokens: special }))).toBe(JSON.stringify(json));
    // The pairs a,b and Ġ,a are seen twice each; a has the lower id. Then no pair is seen twice.
    const small = trainBpe(["ab ab ac"], { vocabSize: 1000, specialTokens: [] });
    expect(small.model.merges).toEqual([["a", "b"]]);
  });

  it("refuses a vocabulary without room for the bytes", () => {
    expect(() => trainBpe([], { vocabSize: 259, specialTokens: special })).toThrow(/at least 260 .* got 259/);
  });

  it("is encoded by the library as by the merges in order", () => {
    const tokenizer = loadTokenizer(json, tokenizerConfig(64));
    const naive = (text: string) =>
      [...text.matchAll(wordPattern)].flatMap(([piece]) => {
        const word = toBytes(piece);
        for (const [left, right] of json.model.merges) applyMerge(word, left, right);
        return word.map((token) => json.model.vocab[token]);
      });
    for (const text of [...mixed, ...corpus.map((line) => line.split("").reverse().join(""))]) {
      expect(tokenizer.encode(text)).toEqual(naive(text));
    }
  });

  it("brings any text back", () => {
    const tokenizer = loadTokenizer(json, tokenizerConfig(64));
    const rng = new Rng(7);
    const ranges = [[0x00, 0x80], [0x80, 0x800], [0x3040, 0x9fff], [0xe000, 0x10000], [0x1f300, 0x1faff], [
      0x10000,
      0x110000,
    ]];
    const random = Array.from({ length: 300 }, () =>
      Array.from({ length: 1 + rng.int(12) }, () => {
        const [low, high] = rng.pick(ranges);
        return String.fromCodePoint(low + rng.int(high - low));
      }).join(""));
    for (const text of ["", " ", "\n \t", "👩‍👩‍👧‍👦 🇩🇪 e\u0301", ...random]) {
      expect(tokenizer.decode(tokenizer.encode(text))).toBe(text);
    }
  });
});
