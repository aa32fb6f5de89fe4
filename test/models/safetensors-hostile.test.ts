import { describe, expect, it } from "vitest";
import { AttuneError } from "../../src/core/errors.ts";
import { Rng } from "../../src/core/rng.ts";
import { MAX_HEADER_BYTES, readSafetensors, toFloat32 } from "../../src/models/safetensors.ts";
import { writeSafetensors } from "../../src/models/safetensors-write.ts";
import { errorOf } from "./errors.ts";

/** A file with this header text and this many data bytes; `claimed` is the length it claims for the header. */
function fileOf(header: string | Uint8Array, dataBytes = 0, claimed?: bigint): Uint8Array {
  const json = typeof header === "string" ? new TextEncoder().encode(header) : header;
  const file = new Uint8Array(8 + json.length + dataBytes);
  new DataView(file.buffer).setBigUint64(0, claimed ?? BigInt(json.length), true);
  file.set(json, 8);
  return file;
}

const entry = (begin: unknown, end: unknown, shape: unknown = [1], dtype: unknown = "F32"): string =>
  JSON.stringify({ dtype, shape, data_offsets: [begin, end] });

const two = (a: string, b: string): string => `{"a":${a},"b":${b}}`;

const cases: [what: string, file: Uint8Array, code: string, says: RegExp][] = [
  ["an empty file", new Uint8Array(), "truncated", /0 bytes, expected at least the 8/],
  ["seven bytes", new Uint8Array(7), "truncated", /7 bytes/],
  ["a header longer than the file", fileOf("{}", 0, 3n), "truncated", /claims 3 bytes, the file has 2/],
  ["a header over the cap", fileOf("{}", 0, BigInt(MAX_HEADER_BYTES) + 1n), "header", /claims 16777217 bytes, at most/],
  ["a header of 2^64 - 1 bytes", fileOf("{}", 0, 2n ** 64n - 1n), "header", /claims 18446744073709551615/],
  ["a header of no bytes", fileOf(""), "header", /claims 0 bytes/],
  ["a header that is not UTF-8", fileOf(Uint8Array.of(0x7b, 0x22, 0xff, 0x22, 0x7d)), "header", /not valid UTF-8/],
  ["a header with a byte-order mark", fileOf("\ufeff{}"), "header", /starts with byte 239/],
  ["a header that is not JSON", fileOf("{abc}"), "header", /not valid JSON/],
  ["a header that ends early", fileOf('{"a":{"dtype":"F3'), "header", /not valid JSON/],
  ["a header with a bad escape in a key", fileOf('{"\\x":1}'), "header", /not valid JSON/],
  ["a header that is a list", fileOf("[1]"), "header", /starts with byte 91/],
  ["a header with text after it", fileOf("{} x"), "header", /not valid JSON/],
  ["a deeply nested header", fileOf('{"a":'.repeat(100_000)), "header", /nested deeper than 3/],
  ["a deeply nested shape", fileOf(`{"a":{"shape":${"[".repeat(100_000)}`), "header", /nested deeper than 3/],
  ["a name given twice", fileOf(two(entry(0, 4), entry(0, 4)).replace('"b"', '"a"'), 4), "header", /"a" occurs twice/],
  ["a name given twice, once escaped", fileOf('{"a":1,"\\u0061":2}'), "header", /"a" occurs twice/],
  ["a name with a quote given twice", fileOf('{"\\"":1,"\\"":2}'), "header", /occurs twice/],
  ["a field given twice", fileOf('{"a":{"dtype":"F32","dtype":"F16"}}'), "header", /"dtype" occurs twice/],
  ["a tensor __proto__", fileOf(`{"__proto__":${entry(0, 4)}}`, 4), "header", /"__proto__" is not accepted/],
  ["an entry's __proto__", fileOf('{"a":{"__pr\\u006fto__":{}}}'), "header", /"__proto__" is not accepted/],
  ["metadata that is a list", fileOf('{"__metadata__":[]}'), "metadata", /expected an object, got \[\]/],
  ["metadata with a number", fileOf('{"__metadata__":{"n":1}}'), "metadata", /"n": expected a string, got 1/],
  ["an entry that is a number", fileOf('{"a":1}'), "entry", /"a": expected an object, got 1/],
  ["an entry with another field", fileOf('{"a":{"type":"F32"}}'), "entry", /got "type"/],
  ["no dtype", fileOf('{"a":{"shape":[1],"data_offsets":[0,4]}}', 4), "dtype", /unknown dtype nothing/],
  ["an unknown dtype", fileOf(`{"a":${entry(0, 4, [1], "F128")}}`, 4), "dtype", /"F128", expected one of BOOL/],
  ["a dtype of Object's", fileOf(`{"a":${entry(0, 4, [1], "constructor")}}`, 4), "dtype", /"constructor"/],
  ["no shape", fileOf('{"a":{"dtype":"F32","data_offsets":[0,4]}}', 4), "shape", /got nothing/],
  ["a negative size", fileOf(`{"a":${entry(0, 4, [-1])}}`, 4), "shape", /got \[-1\]/],
  ["a size that is no integer", fileOf(`{"a":${entry(0, 4, [1.5])}}`, 4), "shape", /got \[1.5\]/],
  ["a size that is text", fileOf(`{"a":${entry(0, 4, ["1"])}}`, 4), "shape", /got \["1"\]/],
  [
    "a size beyond the exact integers",
    fileOf(`{"a":${entry(0, 4, [2 ** 53])}}`, 4),
    "shape",
    /got \[9007199254740992\]/,
  ],
  ["a shape too large to count", fileOf(`{"a":${entry(0, 4, [2 ** 40, 2 ** 40])}}`, 4), "offsets", /is too large/],
  ["a huge shape that a 0 hides", fileOf(`{"a":${entry(0, 0, [2 ** 40, 2 ** 40, 0])}}`), "offsets", /is too large/],
  ["a shape larger than its bytes", fileOf(`{"a":${entry(0, 4, [1, 2])}}`, 4), "offsets", /span 4 bytes.*needs 8/],
  ["a shape smaller than its bytes", fileOf(`{"a":${entry(0, 8, [1])}}`, 8), "offsets", /span 8 bytes.*needs 4/],
  ["one offset", fileOf('{"a":{"dtype":"F32","shape":[0],"data_offsets":[0]}}'), "offsets", /got \[0\]/],
  ["offsets the wrong way round", fileOf(`{"a":${entry(4, 0)}}`, 4), "offsets", /begin ≤ end, got \[4,0\]/],
  ["a negative offset", fileOf(`{"a":${entry(-4, 0)}}`, 4), "offsets", /got \[-4,0\]/],
  ["offsets past the end", fileOf(`{"a":${entry(0, 8, [2])}}`, 4), "offsets", /end past the file's 4 data bytes/],
  ["a hole at the start", fileOf(`{"a":${entry(4, 8)}}`, 8), "offsets", /"a" leaves a hole.*offset 4, expected 0/],
  ["a hole between", fileOf(two(entry(0, 4), entry(8, 12)), 12), "offsets", /"b" leaves a hole.*8, expected 4/],
  ["an overlap", fileOf(two(entry(0, 8, [2]), entry(4, 8)), 8), "offsets", /"b" overlaps.*4, expected 8/],
  ["the same bytes twice", fileOf(two(entry(0, 4), entry(0, 4)), 4), "offsets", /overlaps/],
  ["bytes after the last tensor", fileOf(`{"a":${entry(0, 4)}}`, 5), "offsets", /1 bytes after the last/],
];

describe("hostile safetensors files", () => {
  it.each(cases)("%s", async (_, file, code, says) => {
    const error = await errorOf(() => readSafetensors(file, "x.safetensors"));
    expect(error.code).toBe(`safetensors-${code}`);
    expect(error.message).toMatch(/^x\.safetensors: /);
    expect(error.message).toMatch(says);
  });

  it("keeps its messages short when names and shapes are long", async () => {
    const long = "n".repeat(100_000);
    const shape = Array.from({ length: 100_000 }, () => 2);
    const error = await errorOf(() =>
      readSafetensors(fileOf(JSON.stringify({ [long]: { dtype: "F32", shape } })), "x")
    );
    expect(error.message.length).toBeLessThan(600);
  });

  it("reads what the format allows at its edges", () => {
    expect(readSafetensors(fileOf("{}"), "x").size).toBe(0);
    expect(readSafetensors(fileOf("{}      "), "x").size).toBe(0);
    const empty = readSafetensors(fileOf(two(entry(0, 0, [0, 9]), entry(0, 4, [])), 4), "x");
    expect([...empty.values()].map(({ shape, bytes }) => [shape, bytes.length])).toEqual([[[0, 9], 0], [[], 4]]);
    const odd = readSafetensors(fileOf(`{"toString":${entry(0, 4)}}`, 4), "x");
    expect([...odd.keys()]).toEqual(["toString"]);
  });

  it("gives an AttuneError or a whole read for 3000 damaged files", () => {
    const rng = new Rng(20);
    const values = (n: number) => Float32Array.from({ length: n }, () => rng.normal());
    const good = writeSafetensors([
      { name: "model.embed", shape: [8, 4], data: values(32) },
      { name: "model.norm", shape: [4], data: values(4), dtype: "BF16" },
      { name: "head", shape: [2, 2, 3], data: values(12), dtype: "F16" },
    ]);
    const headerEnd = 8 + new DataView(good.buffer).getUint32(0, true);
    const outcomes = { read: 0, refused: 0 };
    for (let round = 0; round < 3000; round++) {
      const file = damage(good, headerEnd, rng);
      try {
        for (const raw of readSafetensors(file, "damaged").values()) {
          if (["F32", "F16", "BF16"].includes(raw.dtype)) {
            expect(toFloat32(raw).length).toBe(raw.shape.reduce((a, b) => a * b, 1));
          }
          expect(raw.bytes.buffer).toBe(file.buffer); // a view: nothing was allocated for it
        }
        outcomes.read++;
      } catch (error) {
        if (!(error instanceof AttuneError) || !error.code.startsWith("safetensors-")) throw error;
        outcomes.refused++;
      }
    }
    // Both ends must be reached for the test to say anything; a changed letter of a name still is a good file.
    expect(outcomes.read).toBeGreaterThan(100);
    expect(outcomes.refused).toBeGreaterThan(1000);
  });
});

/** A copy with one to three faults, most of them in the header. */
function damage(good: Uint8Array, headerEnd: number, rng: Rng): Uint8Array {
  let file = good.slice();
  const digits = new TextEncoder().encode('0123456789-.eE"[]{},:_\\');
  for (let faults = 1 + rng.int(3); faults > 0; faults--) {
    const at = rng.int(Math.min(headerEnd, file.length));
    const kind = rng.int(5);
    if (kind === 0) file[at] = rng.int(256);
    else if (kind === 1) file[at] = rng.pick([...digits]);
    else if (kind === 2) file[at] ^= 1 << rng.int(8);
    else if (kind === 3) file = file.slice(0, rng.int(file.length));
    else file.copyWithin(at, rng.int(headerEnd), rng.int(headerEnd));
    if (file.length === 0) return file;
  }
  return file;
}
