/** Golden vectors of the reference libraries, as committed under test/golden. */
import { readSafetensors, toFloat32 } from "../../src/models/safetensors.ts";
import type { Tensor } from "../../src/core/shape.ts";
import { loadFolder, type ModelFolder, type Reader } from "../../src/models/folder.ts";
import { readBytes, readText } from "./files.ts";

/** What expected.json and expected.safetensors of a golden model hold. */
export interface GoldenModel {
  readonly folder: ModelFolder;
  readonly expected: GoldenExpected;
  /** input_ids, attention_mask, labels, logits, per_token_logps, entropy, loss, grad.*. */
  tensor(name: string): Tensor;
}

interface GoldenExpected {
  readonly adamw: readonly {
    readonly name: string;
    readonly optimizer: {
      readonly lr: number;
      readonly betas: [number, number];
      readonly eps: number;
      readonly weight_decay: number;
      readonly max_grad_norm: number | null;
    };
    readonly losses: readonly number[];
    readonly grad_norms: readonly number[];
    readonly learning_rates: readonly number[];
    readonly steps: number;
  }[];
  readonly greedy: readonly {
    readonly prompt_ids: number[];
    readonly max_new_tokens: number;
    readonly generated_ids: number[];
    readonly logps: number[];
  }[];
}

export async function goldenModel(name: string): Promise<GoldenModel> {
  const root = `test/golden/models/${name}`;
  const reader: Reader = { describe: root, read: (file) => readBytes(`${root}/${file}`).catch(() => undefined) };
  const folder = await loadFolder(reader);
  const raw = readSafetensors(await readBytes(`${root}/expected.safetensors`), `${root}/expected.safetensors`);
  const tensor = (key: string): Tensor => {
    const t = raw.get(key);
    if (t === undefined) throw new Error(`${root}: no ${key}`);
    if (t.dtype !== "I64") return { shape: t.shape, data: toFloat32(t) };
    const wide = new BigInt64Array(t.bytes.slice().buffer);
    // Labels of −100 are left as 0: the mask says which count.
    return { shape: t.shape, data: Uint32Array.from(wide, (x) => Math.max(0, Number(x))) };
  };
  return { folder, expected: JSON.parse(await readText(`${root}/expected.json`)), tensor };
}
