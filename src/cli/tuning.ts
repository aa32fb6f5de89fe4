/** Keeps which kernels are fastest on an adapter from one command to the next: timing them takes seconds. */
import type { Gpu } from "../gpu/device.ts";
import type { TuningTable } from "../gpu/tune.ts";
import { isJsonObject, parseJsonObject } from "../models/json.ts";
import { type GpuBackend, gpuBackend } from "../plan/compile.ts";
import { fileStore } from "../storage/file.ts";

const FILE = "tuning.json";

/** A backend that starts with the kernels chosen before, and writes down new choices. */
export async function tunedBackend(gpu: Gpu): Promise<GpuBackend> {
  const folder = cacheFolder();
  if (folder === undefined) return gpuBackend(gpu);
  const tables = await readTables(folder);
  const table = tables[gpu.adapter] ?? {};
  const backend = gpuBackend(gpu, table);
  let known = Object.keys(table).length;
  return {
    ...backend,
    async compile(label, trace) {
      const plan = await backend.compile(label, trace);
      if (Object.keys(table).length > known) {
        known = Object.keys(table).length;
        const text = JSON.stringify({ ...await readTables(folder), [gpu.adapter]: table }, null, 2) + "\n";
        // Without it the next command times the kernels again, which is no reason to end this one.
        await fileStore(folder).write(FILE, new TextEncoder().encode(text)).catch(() => undefined);
      }
      return plan;
    },
  };
}

/** The tables by adapter; none when the file is not there or not what it should be. */
async function readTables(folder: string): Promise<Record<string, TuningTable>> {
  try {
    const bytes = await fileStore(folder).read(FILE);
    if (bytes === undefined) return {};
    const tables = parseJsonObject(bytes, { code: "tuning", name: FILE, maxDepth: 4 });
    return Object.fromEntries(
      Object.entries(tables).filter((entry): entry is [string, TuningTable] => isTable(entry[1])),
    );
  } catch {
    return {};
  }
}

const isTable = (value: unknown): value is TuningTable =>
  isJsonObject(value) && Object.values(value).every((name) => typeof name === "string");

function cacheFolder(): string | undefined {
  const [cache, home] = [Deno.env.get("XDG_CACHE_HOME") ?? Deno.env.get("LOCALAPPDATA"), Deno.env.get("HOME")];
  if (cache !== undefined) return `${cache}/attune`;
  return home === undefined ? undefined : `${home}/.cache/attune`;
}
