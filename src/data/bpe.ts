/**
 * Trains a byte-level BPE tokenizer (Sennrich et al. 2016, arXiv:1508.07909; on bytes, as GPT-2) and writes it in the
 * form of Hugging Face's tokenizer.json.
 *
 * Every byte is in the vocabulary, so any text has an encoding. The same texts give the same merges: the most frequent
 * pair is merged first, and of equally frequent ones the pair with the lower ids.
 */
import { AttuneError } from "../core/errors.ts";
import { byteAlphabet, wordPattern } from "./byteLevel.ts";

/** The part of tokenizer.json that the trainer writes. */
export interface TokenizerJson {
  readonly version: string;
  readonly truncation: null;
  readonly padding: null;
  readonly added_tokens: readonly AddedToken[];
  readonly normalizer: null;
  readonly pre_tokenizer: ByteLevelPart;
  readonly post_processor: null;
  readonly decoder: ByteLevelPart;
  readonly model: BpeModel;
}

interface ByteLevelPart {
  readonly type: "ByteLevel";
  readonly add_prefix_space: boolean;
  readonly trim_offsets: boolean;
  readonly use_regex: boolean;
}

interface AddedToken {
  readonly id: number;
  readonly content: string;
  readonly single_word: boolean;
  readonly lstrip: boolean;
  readonly rstrip: boolean;
  readonly normalized: boolean;
  readonly special: boolean;
}

interface BpeModel {
  readonly type: "BPE";
  readonly dropout: null;
  readonly unk_token: null;
  readonly continuing_subword_prefix: null;
  readonly end_of_word_suffix: null;
  readonly fuse_unk: boolean;
  readonly byte_fallback: boolean;
  readonly ignore_merges: boolean;
  readonly vocab: Readonly<Record<string, number>>;
  readonly merges: readonly (readonly [left: string, right: string])[];
}

export interface BpeOptions {
  /** Size wanted: special tokens, 256 bytes and merges. A corpus that runs out of pairs gives fewer. */
  readonly vocabSize: number;
  /** Tokens with ids 0, 1 …, which text splits at before anything else. */
  readonly specialTokens: readonly string[];
  /** Pairs seen fewer times stay apart; 2 by default. */
  readonly minFrequency?: number;
}

/** Learns a vocabulary from texts. @throws AttuneError `bpe-vocab-size` for one without room for the bytes */
export function trainBpe(texts: Iterable<string>, options: BpeOptions): TokenizerJson {
  const { vocabSize, specialTokens, minFrequency = 2 } = options;
  const smallest = specialTokens.length + byteAlphabet.length;
  if (!Number.isInteger(vocabSize) || vocabSize < smallest) {
    throw new AttuneError(
      "bpe-vocab-size",
      `expected a vocabulary size of at least ${smallest} (${specialTokens.length} special tokens and 256 bytes); ` +
        `got ${vocabSize}`,
    );
  }
  const tokens = [...specialTokens, ...[...byteAlphabet].sort()];
  const ids = new Map(tokens.map((token, id) => [token, id]));
  const idOfByte = byteAlphabet.map((char) => ids.get(char) ?? 0);

  const pairs = countPairs(countWords(texts, idOfByte));
  const merges: [string, string][] = [];
  while (tokens.length < vocabSize) {
    const best = mostFrequent(pairs, minFrequency);
    if (best === undefined) break;
    merges.push([tokens[best.left], tokens[best.right]]);
    // Two merges may spell the same text ("a"+"bc" after "ab"+"c"): then they share one token.
    const text = tokens[best.left] + tokens[best.right];
    const id = ids.get(text) ?? tokens.length;
    if (id === tokens.length) {
      tokens.push(text);
      ids.set(text, id);
    }
    mergePair(pairs, best, id);
  }
  return tokenizerJson(tokens, merges, specialTokens);
}

/** A distinct word of the corpus: its current tokens and how often it occurs. */
interface Word {
  ids: number[];
  readonly count: number;
}

interface Pair {
  readonly left: number;
  readonly right: number;
  count: number;
  /** The words that hold the pair, or once held it. */
  readonly words: Set<Word>;
}

type Pairs = Map<number, Pair>;

const pairKey = (left: number, right: number): number => left * 2 ** 24 + right; // exact: ids stay below 2^24

function countWords(texts: Iterable<string>, idOfByte: readonly number[]): Word[] {
  const counts = new Map<string, number>();
  for (const text of texts) {
    for (const [piece] of text.matchAll(wordPattern)) counts.set(piece, (counts.get(piece) ?? 0) + 1);
  }
  const utf8 = new TextEncoder();
  return [...counts].map(([piece, count]) => ({
    ids: Array.from(utf8.encode(piece), (byte) => idOfByte[byte]),
    count,
  }));
}

function countPairs(words: readonly Word[]): Pairs {
  const pairs: Pairs = new Map();
  for (const word of words) addWord(pairs, word, 1);
  return pairs;
}

/** Adds a word's pairs to the counts (sign 1), or takes them away (sign −1). */
function addWord(pairs: Pairs, word: Word, sign: 1 | -1): void {
  for (let i = 0; i + 1 < word.ids.length; i++) {
    const [left, right] = [word.ids[i], word.ids[i + 1]];
    const key = pairKey(left, right);
    let pair = pairs.get(key);
    if (pair === undefined) pairs.set(key, pair = { left, right, count: 0, words: new Set() });
    pair.count += sign * word.count;
    if (sign === 1) pair.words.add(word);
  }
}

function mostFrequent(pairs: Pairs, minFrequency: number): Pair | undefined {
  let best: Pair | undefined;
  for (const pair of pairs.values()) {
    if (pair.count < minFrequency) continue;
    const ahead = best === undefined || pair.count > best.count ||
      pair.count === best.count && (pair.left < best.left || pair.left === best.left && pair.right < best.right);
    if (ahead) best = pair;
  }
  return best;
}

/** Replaces the pair by `id` in every word that holds it, from left to right, and keeps the counts true. */
function mergePair(pairs: Pairs, merged: Pair, id: number): void {
  for (const word of merged.words) {
    addWord(pairs, word, -1);
    const out: number[] = [];
    for (let i = 0; i < word.ids.length; i++) {
      const found = word.ids[i] === merged.left && word.ids[i + 1] === merged.right;
      out.push(found ? id : word.ids[i]);
      if (found) i++;
    }
    word.ids = out;
    addWord(pairs, word, 1);
  }
  pairs.delete(pairKey(merged.left, merged.right));
}

function tokenizerJson(
  tokens: readonly string[],
  merges: readonly (readonly [string, string])[],
  specialTokens: readonly string[],
): TokenizerJson {
  const byteLevel: ByteLevelPart = { type: "ByteLevel", add_prefix_space: false, trim_offsets: true, use_regex: true };
  return {
    version: "1.0",
    truncation: null,
    padding: null,
    added_tokens: specialTokens.map((content, id) => ({
      id,
      content,
      single_word: false,
      lstrip: false,
      rstrip: false,
      normalized: false,
      special: true,
    })),
    normalizer: null,
    pre_tokenizer: byteLevel,
    post_processor: null,
    decoder: byteLevel,
    model: {
      type: "BPE",
      dropout: null,
      unk_token: null,
      continuing_subword_prefix: null,
      end_of_word_suffix: null,
      fuse_unk: false,
      byte_fallback: false,
      ignore_merges: false,
      vocab: Object.fromEntries(tokens.map((token, id) => [token, id])),
      merges,
    },
  };
}
