import { describe, expect, it } from "vitest";
import { AttuneError } from "../../src/core/errors.ts";
import { Rng } from "../../src/core/rng.ts";
import { readJsonl, type RowKind } from "../../src/data/jsonl.ts";
import { type ByteSource, readLines, readTexts } from "../../src/data/lines.ts";

const bytes = (text: string) => new TextEncoder().encode(text);

async function collect<T>(source: AsyncIterable<T>): Promise<T[]> {
  const out: T[] = [];
  for await (const item of source) out.push(item);
  return out;
}

/** The same bytes in pieces, through one buffer that is used again, as streams may do. */
async function* inPieces(all: Uint8Array, cuts: () => number): AsyncGenerator<Uint8Array> {
  const buffer = new Uint8Array(64);
  for (let at = 0; at < all.length;) {
    const piece = all.subarray(at, at + Math.min(64, cuts()));
    buffer.set(piece);
    yield buffer.subarray(0, piece.length);
    await Promise.resolve();
    at += piece.length;
  }
}

/** "code message" of the error that reading gives. */
async function failure(source: ByteSource | string, kinds: readonly RowKind[] = ["completion"]): Promise<string> {
  try {
    await collect(readJsonl(typeof source === "string" ? bytes(source) : source, "rows.jsonl", kinds));
  } catch (error) {
    if (error instanceof AttuneError) return `${error.code} ${error.message}`;
    throw error;
  }
  return "no error";
}

describe("readLines", () => {
  const text = "one\r\n\nthrée 日本 👩‍🚀\n  four\r\nfive";
  const expected = ["one", "", "thrée 日本 👩‍🚀", "  four", "five"].map((line, i) => ({ text: line, number: i + 1 }));

  it("gives the same lines however the bytes are cut", async () => {
    expect(await collect(readLines(bytes(text), "f"))).toEqual(expected);
    const rng = new Rng(1);
    for (let i = 0; i < 50; i++) {
      expect(await collect(readLines(inPieces(bytes(text), () => 1 + rng.int(7)), "f"))).toEqual(expected);
    }
  });

  it("drops a byte order mark at the start only, and opens no line after the last line feed", async () => {
    const lines = await collect(readLines(bytes("\ufeffa\n\ufeffb\n"), "f"));
    expect(lines.map((line) => line.text)).toEqual(["a", "\ufeffb"]);
  });

  it("refuses a line that does not end", async () => {
    async function* endless() {
      while (true) yield new Uint8Array(2 ** 20).fill(0x61);
    }
    await expect(collect(readLines(endless(), "big.bin"))).rejects.toThrow(
      /^big.bin:1: expected lines of at most 16777216/,
    );
  });
});

describe("readTexts", () => {
  it("gives lines or paragraphs", async () => {
    const source = bytes("\na\nb\n \nc\n\n\n");
    expect(await collect(readTexts(source, "f", "line"))).toEqual(["a", "b", "c"]);
    expect(await collect(readTexts(source, "f", "paragraph"))).toEqual(["a\nb", "c"]);
    expect(await collect(readTexts(bytes("a\n\nb\nc"), "f", "paragraph"))).toEqual(["a", "b\nc"]);
    await expect(collect(readTexts(bytes(" \n\n"), "f.txt", "line"))).rejects.toThrow(
      "f.txt: expected text; the file is empty",
    );
  });
});

describe("readJsonl", () => {
  it("reads every kind of row", async () => {
    const read = (text: string, kind: RowKind) => collect(readJsonl(bytes(text), "f", [kind]));
    expect(await read('{"text": "a"}\r\n\n{"text": "b", "more": 1}', "text")).toEqual([{ text: "a" }, { text: "b" }]);
    expect(await read('{"prompt": "a"}', "prompt")).toEqual([{ prompt: "a" }]);
    expect(await read('{"completion": "b", "prompt": "a"}', "completion")).toEqual([{ prompt: "a", completion: "b" }]);
    expect(await read('{"prompt": "a", "chosen": "b", "rejected": "c"}', "preference"))
      .toEqual([{ prompt: "a", chosen: "b", rejected: "c" }]);
    expect(await read('{"prompt_ids": [], "completion_ids": [0, 5]}', "tokens"))
      .toEqual([{ promptIds: [], completionIds: [0, 5] }]);
  });

  it("takes the first kind that a row has the fields of", async () => {
    const text = '{"prompt_ids": [1], "completion_ids": [2]}\n{"prompt": "a", "completion": "b"}';
    expect(await collect(readJsonl(bytes(text), "f", ["completion", "tokens"])))
      .toEqual([{ promptIds: [1], completionIds: [2] }, { prompt: "a", completion: "b" }]);
  });

  it("names file and line of what is wrong", async () => {
    const good = '{"prompt": "a", "completion": "b"}';
    expect(await failure("")).toBe("data-empty rows.jsonl: expected rows {prompt, completion}; the file is empty");
    expect(await failure(" \n\n")).toMatch(/^data-empty /);
    expect(await failure(`${good}\n\n{"prompt": `)).toMatch(
      /^data-not-json rows.jsonl:3: expected one JSON object a line; /,
    );
    expect(await failure(`${good}\n[1]`)).toBe(
      "data-not-object rows.jsonl:2: expected an object {prompt, completion}; got [1]",
    );
    expect(await failure("null")).toMatch(/^data-not-object rows.jsonl:1: .* got null$/);
    expect(await failure(`${good}\n{"prompt": "a", "answer": "b"}`)).toBe(
      'data-field rows.jsonl:2: field "completion" is missing; expected {prompt, completion}, got the fields "prompt", "answer"',
    );
    expect(await failure("{}", ["preference"])).toMatch(/field "prompt" is missing; .* got the fields none$/);
    expect(await failure('{"prompt": "a", "completion": 3}')).toBe(
      'data-field rows.jsonl:1: field "completion" of a row {prompt, completion} should be a string; got 3',
    );
    expect(await failure('{"prompt": "a", "completion": null}')).toMatch(/should be a string; got null$/);
    expect(await failure('{"chosen": "a", "prompt": "b"}', ["completion", "preference"])).toMatch(
      /"(completion|rejected)" is missing; expected {prompt, completion} or {prompt, chosen, rejected}/,
    );
  });

  it("takes no field from an object's prototype", async () => {
    expect(await failure('{"__proto__": {"prompt": "a", "completion": "b"}}')).toMatch(
      /^data-field .* "prompt" is missing/,
    );
  });

  it.each(["[-1]", "[1.5]", '["1"]', "[4294967296]", "[null]", "7", '"12"', "{}"])(
    "refuses %s as token ids",
    async (ids) => {
      expect(await failure(`{"prompt_ids": [1], "completion_ids": ${ids}}`, ["tokens"]))
        .toMatch(/^data-field rows.jsonl:1: field "completion_ids" .* should be an array of token ids/);
    },
  );

  it("refuses bytes that are not UTF-8, whole or cut at the end", async () => {
    const latin1 = Uint8Array.from([
      ...bytes('{"prompt": "a", "completion": "b"}\n{"prompt": "caf'),
      0xe9,
      ...bytes('"}'),
    ]);
    expect(await failure(latin1)).toBe("data-not-utf8 rows.jsonl:2: expected UTF-8 text; save the file as UTF-8");
    expect(await failure(bytes('{"prompt": "日').slice(0, -1))).toMatch(/^data-not-utf8 rows.jsonl:1:/);
    const utf16 = new Uint8Array(Uint16Array.from('{"prompt"', (char) => char.charCodeAt(0)).buffer);
    expect(await failure(Uint8Array.from([0xff, 0xfe, ...utf16]))).toMatch(/^data-not-utf8 rows.jsonl:1:/);
  });

  it("ends any damaged file in an AttuneError or in rows", async () => {
    const rng = new Rng(17);
    const file = bytes('{"prompt": "Tell", "completion": "é"}\n'.repeat(3));
    let failed = 0;
    for (let i = 0; i < 1000; i++) {
      const damaged = file.slice(0, rng.int(4) === 0 ? rng.int(file.length) : file.length);
      for (let k = rng.int(3); k >= 0 && damaged.length > 0; k--) damaged[rng.int(damaged.length)] = rng.int(256);
      if ((await failure(damaged)) !== "no error") failed++; // anything but an AttuneError is thrown on
    }
    expect(failed).toBeGreaterThan(500);
  });
});
