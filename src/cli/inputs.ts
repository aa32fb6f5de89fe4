/** What commands are given: model folders, data files, reward files. */
import { AttuneError } from "../core/errors.ts";
import { readJsonl, type RowKind } from "../data/jsonl.ts";
import { encodePrompt } from "../data/format.ts";
import type { PromptRow, RowTypes } from "../data/rows.ts";
import { openGpu } from "../gpu/device.ts";
import { loadFolder, type ModelFolder } from "../models/folder.ts";
import type { Backend } from "../plan/backend.ts";
import type { GpuBackend } from "../plan/compile.ts";
import type { Reward } from "../rl/reward.ts";
import { requireTokenizer, weightsSum } from "../run/data.ts";
import type { Identity } from "../run/recipe.ts";
import { modelReward } from "../run/reward.ts";
import { sha256 } from "../storage/checked.ts";
import { openFolder } from "../storage/file.ts";
import { BUNDLED_MODEL, BUNDLED_REWARD } from "./bundled.ts";
import type { Options } from "./options.ts";
import { fromFileUrl, isFolder, resolveUrl } from "./paths.ts";
import { tunedBackend } from "./tuning.ts";

export interface NamedFolder {
  readonly folder: ModelFolder;
  /** As the user named it. */
  readonly source: string;
}

/** The model folder at a path, or a bundled one. */
export async function openModel(path: string | undefined): Promise<NamedFolder> {
  const source = path ?? "bundled";
  const place = path ?? fromFileUrl(BUNDLED_MODEL);
  return { source, folder: await loadFolder(await openFolder(place)) };
}

/** Reads a whole file. @throws AttuneError `file-missing`, `file-unreadable` */
export async function readFile(path: string): Promise<Uint8Array<ArrayBuffer>> {
  try {
    return await Deno.readFile(path);
  } catch (cause) {
    if (cause instanceof Deno.errors.NotFound) {
      throw new AttuneError("file-missing", `${path}: expected a file, there is nothing at this path; check it`, {
        cause,
      });
    }
    throw new AttuneError(
      "file-unreadable",
      `${path}: cannot be read (${cause instanceof Error ? cause.message : cause}); give a file that may be read`,
      { cause },
    );
  }
}

/** All rows of a JSON Lines file. */
export async function readRows<K extends RowKind>(path: string, kinds: readonly K[]): Promise<RowTypes[K][]> {
  const rows: RowTypes[K][] = [];
  for await (const row of readJsonl(await readFile(path), path, kinds)) rows.push(row);
  return rows;
}

/** A reward and where it came from. */
export interface NamedReward {
  readonly reward: Reward;
  readonly identity: Identity;
}

/** Makes a reward once there is a backend; what can be wrong with its source is found out before. */
export type RewardSource = (backend: Backend) => NamedReward;

/** A reward by what follows --reward: a file with a function, a folder with a reward model, or "bundled". */
export async function openReward(source: string): Promise<RewardSource> {
  if (source !== "bundled" && !isFolder(source)) {
    const reward = await importReward(source);
    return () => reward;
  }
  const folder = await loadFolder(await openFolder(source === "bundled" ? fromFileUrl(BUNDLED_REWARD) : source));
  const identity = { source, sha256: await weightsSum(folder) };
  return (backend) => ({ reward: modelReward(backend, folder, source), identity });
}

/**
 * The reward function of a TypeScript or JavaScript file: its default export.
 *
 * @throws AttuneError `file-missing`, `reward-file`
 */
async function importReward(path: string): Promise<NamedReward> {
  const identity = { source: path, sha256: await sha256(await readFile(path)) };
  const broken = (what: string, cause?: unknown): AttuneError =>
    new AttuneError(
      "reward-file",
      `${path}: ${what}; expected \`export default (prompts: string[], completions: string[]): number[] => …\``,
      { cause },
    );
  let module: { default?: unknown };
  try {
    module = await import(resolveUrl(path).href);
  } catch (cause) {
    // A syntax error comes with a picture of the place, over several lines.
    const reason = String(cause instanceof Error ? cause.message : cause).replace(/\s+/g, " ");
    throw broken(`cannot be imported (${reason})`, cause);
  }
  const reward = module.default;
  if (reward === undefined) throw broken("has no default export");
  if (typeof reward !== "function") throw broken(`its default export is a ${typeof reward}`);
  return { reward: reward as Reward, identity };
}

export const openBackend = async (): Promise<GpuBackend> => await tunedBackend(await openGpu());

/** The completion length to run with: a default that the context cannot hold is lowered, a length that was asked for is not. */
export function completionLength(
  length: number,
  options: Options,
  folder: ModelFolder,
  rows: readonly PromptRow[],
  source: string,
): number {
  if (options.has("max-completion-length")) return length;
  const tokenizer = requireTokenizer(folder, source);
  const longest = Math.max(...rows.map(({ prompt }) => encodePrompt(tokenizer, prompt).length));
  return Math.max(1, Math.min(length, folder.config.maxPositions - longest));
}
