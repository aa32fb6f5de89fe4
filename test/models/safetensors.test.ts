import { describe, expect, it } from "vitest";
import { openSafetensors, parseHeader, readSafetensors, toFloat32 } from "../../src/models/safetensors.ts";
import { type FloatDType, writeSafetensors } from "../../src/models/safetensors-write.ts";
import { readBytes } from "../support/files.ts";
import { errorOf } from "./errors.ts";

const golden = (path: string) => readBytes(`test/golden/models/${path}`);

const headerOf = (file: Uint8Array): Record<string, { dtype: string; shape: number[]; data_offsets: number[] }> => {
  const length = new DataView(file.buffer).getUint32(0, true);
  return JSON.parse(new TextDecoder().decode(file.subarray(8, 8 + length)));
};

describe("files written by the format's own library", () => {
  it.each(["gpt2", "smollm2"])("reads the tensors of %s", async (model) => {
    const file = await golden(`${model}/model.safetensors`);
    const { __metadata__, ...entries } = headerOf(file);
    const tensors = readSafetensors(file, model);
    const dataStart = 8 + new DataView(file.buffer).getUint32(0, true);
    expect([...tensors.keys()]).toEqual(Object.keys(entries)); // these files list their tensors in byte order
    for (const [name, { dtype, shape, data_offsets: [begin, end] }] of Object.entries(entries)) {
      const raw = tensors.get(name);
      expect(raw).toMatchObject({ name, dtype, shape });
      expect(raw && toFloat32(raw)).toEqual(new Float32Array(file.slice(dataStart + begin, dataStart + end).buffer));
    }
    expect(parseHeader(file, model).metadata).toEqual(new Map([["format", "pt"]]));
    expect(__metadata__).toEqual({ format: "pt" });
  });

  // Equal bytes say that values, layout, header and padding are all right, and that f16 and bf16 survive f32.
  it.each<[string, FloatDType]>([
    ["gpt2/model.safetensors", "F32"],
    ["llama-gqa/model-00002-of-00003.safetensors", "F32"],
    ["qwen2/model.safetensors", "F16"],
    ["llama-rope3-tied/model.safetensors", "BF16"],
  ])("writes %s again byte for byte", async (path, dtype) => {
    const file = await golden(path);
    const tensors = [...readSafetensors(file, path).values()].map((raw) => {
      expect(raw.dtype).toBe(dtype);
      return { name: raw.name, shape: raw.shape, data: toFloat32(raw), dtype };
    });
    expect(writeSafetensors(tensors.reverse(), { format: "pt" })).toEqual(file);
  });

  it("reads int64 tensors as bytes, not as floats", async () => {
    const raw = readSafetensors(await golden("gpt2/expected.safetensors"), "expected").get("input_ids");
    expect(raw?.dtype).toBe("I64");
    expect(raw?.bytes.length).toBe(8 * (raw?.shape.reduce((a, b) => a * b) ?? NaN));
    expect((await errorOf(() => raw && toFloat32(raw))).code).toBe("safetensors-dtype");
  });
});

describe("openSafetensors", () => {
  const sourceOf = (file: Uint8Array) => {
    const reads: [number, number][] = [];
    const read = (offset: number, length: number) => {
      reads.push([offset, length]);
      return Promise.resolve(file.slice(offset, offset + length));
    };
    return { reads, source: { size: file.length, read } };
  };

  it("reads the header, then only the tensors asked for", async () => {
    const file = await golden("gpt2/model.safetensors");
    const { reads, source } = sourceOf(file);
    const opened = await openSafetensors(source, "gpt2");
    const name = "transformer.wpe.weight";
    expect(opened.info(name)).toMatchObject({ dtype: "F32", shape: [64, 48], byteLength: 12288 });
    const raw = readSafetensors(file, "gpt2").get(name);
    expect(await opened.load(name)).toEqual(raw && toFloat32(raw));
    expect(opened.names).toEqual([...readSafetensors(file, "gpt2").keys()]);
    expect(reads).toEqual([[0, 8], [0, 8 + 2616], [8 + 2616 + 226560, 12288]]);
  });

  it("names what it holds when asked for something else", async () => {
    const opened = await openSafetensors(sourceOf(await golden("gpt2/model.safetensors")).source, "gpt2");
    const error = await errorOf(() => opened.load("wte"));
    expect(error.code).toBe("safetensors-missing");
    expect(error.message).toMatch(/gpt2: no tensor "wte"; it holds \["transformer/);
  });

  it("refuses a file that is cut within the length or the header", async () => {
    const file = await golden("gpt2/model.safetensors");
    for (const size of [0, 7, 100]) {
      const error = await errorOf(() => openSafetensors(sourceOf(file.slice(0, size)).source, "cut"));
      expect(error.code).toBe("safetensors-truncated");
    }
  });
});

describe("writeSafetensors", () => {
  const data = Float32Array.of(1, -2.5, 3e-9, 65504, NaN, -Infinity);

  it("lays tensors out by element type, then name, whatever their order", () => {
    const tensors = [
      { name: "b", shape: [6], data },
      { name: "h", shape: [2, 3], data, dtype: "F16" as const },
      { name: "a", shape: [3, 2], data },
      { name: "empty", shape: [0, 4], data: new Float32Array() },
      { name: "scalar", shape: [], data: Float32Array.of(7) },
    ];
    const file = writeSafetensors(tensors, { z: "1", a: "ü" });
    expect(file).toEqual(writeSafetensors(tensors.toReversed(), { a: "ü", z: "1" }));
    const read = readSafetensors(file, "file");
    expect([...read.keys()]).toEqual(["a", "b", "empty", "scalar", "h"]);
    expect(parseHeader(file, "file").metadata).toEqual(new Map([["a", "ü"], ["z", "1"]]));
    expect((new DataView(file.buffer).getUint32(0, true)) % 8).toBe(0);
    for (const { name, shape, data } of tensors.filter((tensor) => tensor.name !== "h")) {
      const raw = read.get(name);
      expect(raw?.shape).toEqual(shape);
      expect(raw && toFloat32(raw)).toEqual(data);
    }
    const half = read.get("h");
    expect(half && [...toFloat32(half)]).toEqual([1, -2.5, 0, 65504, NaN, -Infinity]);
  });

  it("writes a part of an array, and names that JSON must escape", () => {
    const name = 'a\\"}{": [\n';
    const raw = readSafetensors(writeSafetensors([{ name, shape: [2], data: data.subarray(1, 3) }]), "file").get(name);
    expect(raw && toFloat32(raw)).toEqual(data.slice(1, 3));
  });

  it("reads a tensor whose file does not start at an aligned address", () => {
    const file = writeSafetensors([{ name: "x", shape: [6], data }]);
    const moved = new Uint8Array(file.length + 3);
    moved.set(file, 3);
    const raw = readSafetensors(moved.subarray(3), "moved").get("x");
    expect(raw && toFloat32(raw)).toEqual(data);
  });

  it("refuses finite values that the element type turns into infinity", async () => {
    const tensor = (
      value: number,
      dtype: FloatDType,
    ) => [{ name: "w", shape: [2], data: Float32Array.of(0, value), dtype }];
    expect(writeSafetensors(tensor(65519, "F16")).length).toBeGreaterThan(0); // rounds down to 65504, the largest
    const error = await errorOf(() => writeSafetensors(tensor(-65520, "F16")));
    expect(error.code).toBe("safetensors-overflow");
    expect(error.message).toMatch(/tensor w element 1 is -65520, too large for F16; store the tensor as F32 or BF16/);
    expect((await errorOf(() => writeSafetensors(tensor(3.4e38, "BF16")))).code).toBe("safetensors-overflow");
  });

  it("refuses names and shapes that do not fit", async () => {
    const one = { shape: [1], data: Float32Array.of(1) };
    for (const names of [["a", "a"], [""], ["__metadata__"], ["__proto__"]]) {
      const error = await errorOf(() => writeSafetensors(names.map((name) => ({ name, ...one }))));
      expect(error.code, names[0]).toBe("safetensors-name");
    }
    const wrong = await errorOf(() => writeSafetensors([{ ...one, name: "a", shape: [2, 2] }]));
    expect(wrong.code).toBe("safetensors-shape");
    expect(wrong.message).toMatch(/1 elements, its shape \[2,2\] needs 4/);
  });
});
