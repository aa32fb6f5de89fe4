/** Checkpoints: the step and every variable that an algorithm named, in a folder that counts only when it is complete. */
import { AttuneError } from "../core/errors.ts";
import { numel, showShape, type TensorData } from "../core/shape.ts";
import type { Variable } from "../graph/sym.ts";
import { parseJsonObject } from "../models/json.ts";
import type { Backend } from "../plan/backend.ts";
import { readChecked, writeChecked } from "../storage/checked.ts";
import type { Store } from "../storage/store.ts";

const FOLDER = "checkpoints";
const STATE = "state.json";

/** A run as it stood after `step` steps. */
export interface Checkpoint {
  readonly step: number;
  /** The variables' data by name. */
  readonly data: ReadonlyMap<string, Uint8Array<ArrayBuffer>>;
}

/** Writes checkpoints/STEP and removes older ones. @throws AttuneError the store's */
export async function saveCheckpoint(
  store: Store,
  backend: Backend,
  variables: readonly Variable[],
  step: number,
): Promise<string> {
  const folder = `${FOLDER}/${step}`;
  const files = new Map<string, Uint8Array>();
  const shapes = variables.map(({ name, shape, dtype }) => ({ name, dtype, shape }));
  for (const variable of variables) files.set(fileOf(variable), bytesOf(await backend.download(variable)));
  files.set(STATE, new TextEncoder().encode(JSON.stringify({ step, variables: shapes }, null, 2) + "\n"));
  await writeChecked(store, folder, files);
  for (const other of await stepsIn(store)) if (other !== step) await store.remove(`${FOLDER}/${other}`);
  return folder;
}

/** The newest complete checkpoint, or undefined. @throws AttuneError `store-corrupt` */
export async function loadCheckpoint(store: Store): Promise<Checkpoint | undefined> {
  for (const step of await stepsIn(store)) {
    const files = await readChecked(store, `${FOLDER}/${step}`);
    if (files === undefined) continue; // its writing was interrupted; the one before is still there
    const where = `${store.describe}/${FOLDER}/${step}/${STATE}`;
    const state = parseJsonObject(files.get(STATE) ?? "", { code: "store-corrupt", name: where, maxDepth: 8 });
    if (state.step !== step) {
      throw new AttuneError("store-corrupt", `${where}: expected step ${step}, got ${state.step}; remove the folder`);
    }
    return { step, data: files };
  }
  return undefined;
}

/** Puts a checkpoint's data into the variables. @throws AttuneError `checkpoint-variables` when it is of another model */
export function uploadCheckpoint(backend: Backend, variables: readonly Variable[], { step, data }: Checkpoint): void {
  for (const v of variables) {
    const bytes = data.get(fileOf(v));
    if (bytes?.length !== 4 * numel(v.shape)) {
      throw new AttuneError(
        "checkpoint-variables",
        `checkpoint ${step}: expected ${v.name} ${v.dtype}${showShape(v.shape)} of ${4 * numel(v.shape)} bytes, got ` +
          `${bytes?.length ?? "no"}; was it written for another model?`,
      );
    }
  }
  for (const v of variables) {
    const { buffer } = data.get(fileOf(v)) ?? new Uint8Array();
    backend.upload(v, v.dtype === "u32" ? new Uint32Array(buffer) : new Float32Array(buffer));
  }
}

const fileOf = (v: Variable): string => `${v.name.replaceAll("/", ".")}.bin`;

const bytesOf = (data: TensorData): Uint8Array => new Uint8Array(data.buffer, data.byteOffset, data.byteLength);

/** Steps that have a folder, newest first. */
async function stepsIn(store: Store): Promise<number[]> {
  const steps = (await store.list(FOLDER)).map((path) => Number(path.split("/")[1])).filter(Number.isSafeInteger);
  return [...new Set(steps)].sort((a, b) => b - a);
}
