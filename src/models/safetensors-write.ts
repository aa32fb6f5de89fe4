import { AttuneError } from "../core/errors.ts";
import { numel, type Shape, showShape } from "../core/shape.ts";
import { floatToBf16, floatToF16 } from "./half.ts";
import { bytesPerElement } from "./safetensors.ts";

/** Element types that can be written. */
export type FloatDType = "F32" | "F16" | "BF16";

export interface TensorToWrite {
  readonly name: string;
  readonly shape: Shape;
  readonly data: Float32Array;
  /** F32 unless told otherwise; F16 and BF16 round to nearest, ties to even. */
  readonly dtype?: FloatDType;
}

/**
 * Writes a safetensors file. The same tensors give the same bytes in whatever order they come: they are laid out as the
 * format's own library does (wider element types first, then by name), so that equal files are equal byte for byte.
 *
 * @throws AttuneError `safetensors-name`, `safetensors-shape`, `safetensors-overflow` (a finite value that the
 *   element type cannot hold)
 */
export function writeSafetensors(
  tensors: Iterable<TensorToWrite>,
  metadata: Readonly<Record<string, string>> = { format: "pt" },
): Uint8Array<ArrayBuffer> {
  const sorted = [...tensors].sort((a, b) =>
    RANK[a.dtype ?? "F32"] - RANK[b.dtype ?? "F32"] || compare(a.name, b.name)
  );
  checkTensors(sorted);
  let end = 0;
  const entries = sorted.map(({ name, shape, data, dtype = "F32" }) => {
    const begin = end;
    end += data.length * bytesPerElement(dtype);
    return [name, { dtype, shape, data_offsets: [begin, end] }] as const;
  });
  const notes = Object.entries(metadata).sort(([a], [b]) => compare(a, b));
  const json = new TextEncoder().encode(
    JSON.stringify(Object.fromEntries([["__metadata__", Object.fromEntries(notes)], ...entries])),
  );
  const dataStart = 8 + Math.ceil(json.length / 8) * 8;
  const file = new Uint8Array(dataStart + end);
  new DataView(file.buffer).setBigUint64(0, BigInt(dataStart - 8), true);
  file.fill(0x20, 8, dataStart); // the format pads its header with spaces
  file.set(json, 8);
  let offset = dataStart;
  for (const tensor of sorted) offset += writeData(tensor, file, offset);
  return file;
}

/** Order of the element types in a file. */
const RANK: Record<FloatDType, number> = { F32: 0, BF16: 1, F16: 2 };

const compare = (a: string, b: string): number => a < b ? -1 : a > b ? 1 : 0;

function checkTensors(sorted: readonly TensorToWrite[]): void {
  const names = new Set<string>();
  for (const { name, shape, data } of sorted) {
    if (names.has(name) || name === "" || name === "__metadata__" || name === "__proto__") {
      const why = names.has(name) ? "is given twice" : "cannot name a tensor";
      throw new AttuneError("safetensors-name", `writeSafetensors: ${JSON.stringify(name)} ${why}; rename it`);
    }
    names.add(name);
    if (numel(shape) !== data.length) {
      throw new AttuneError(
        "safetensors-shape",
        `writeSafetensors: tensor ${name} has ${data.length} elements, its shape ${showShape(shape)} needs ${
          numel(shape)
        }`,
      );
    }
  }
}

/** Writes one tensor's bytes at `offset`; returns how many. */
function writeData({ name, data, dtype = "F32" }: TensorToWrite, file: Uint8Array, offset: number): number {
  if (dtype === "F32") {
    file.set(new Uint8Array(data.buffer, data.byteOffset, data.byteLength), offset);
    return data.byteLength;
  }
  const encode = dtype === "F16" ? floatToF16 : floatToBf16;
  const infinity = encode(Infinity);
  for (let i = 0; i < data.length; i++) {
    const half = encode(data[i]);
    if ((half & 0x7fff) === infinity && Number.isFinite(data[i])) {
      const advice = "store the tensor as F32" + (dtype === "F16" ? " or BF16" : "");
      throw new AttuneError(
        "safetensors-overflow",
        `writeSafetensors: tensor ${name} element ${i} is ${data[i]}, too large for ${dtype}; ${advice}`,
      );
    }
    file[offset + 2 * i] = half & 0xff;
    file[offset + 2 * i + 1] = half >>> 8;
  }
  return 2 * data.length;
}
