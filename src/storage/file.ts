import { mkdir, open, readdir, readFile, rename, rm, rmdir, stat } from "node:fs/promises";
import { AttuneError } from "../core/errors.ts";
import { checkPath, inOrder, RESERVED_ENDING, type Store, storeError } from "./store.ts";

/** A store in the folder `folder` of a disk, which the first write makes. For Deno and Node. */
export function fileStore(folder: string): Store {
  if (folder === "") throw new AttuneError("store-path", 'store: expected a folder, got ""; "." is the current one');
  const root = folder.replace(/(?<=.)\/+$/, "");
  const queue = inOrder();
  const at = (path: string) => `${root}/${checkPath(path)}`;
  const change = (path: string, verb: string, task: (file: string) => Promise<void>): Promise<void> =>
    queue(async () => {
      const file = at(path);
      try {
        await task(file);
      } catch (cause) {
        throw storeError(kindOf(cause), root, `cannot ${verb} ${path}`, cause);
      }
    });

  return {
    describe: root,
    read: (path) =>
      queue(async () => {
        const file = at(path);
        try {
          return new Uint8Array(await readFile(file));
        } catch (cause) {
          if (["ENOENT", "ENOTDIR", "EISDIR"].includes(codeOf(cause))) return undefined;
          throw storeError("unreadable", root, `cannot read ${path}`, cause);
        }
      }),
    write: (path, bytes) =>
      change(path, "write", async (file) => {
        await mkdir(parentOf(file), { recursive: true });
        await replaceFile(file, bytes);
      }),
    append: (path, text) =>
      change(path, "append to", async (file) => {
        await mkdir(parentOf(file), { recursive: true });
        await appendFile(file, text);
      }),
    list: (inner = "") =>
      queue(async () => {
        const start = inner === "" ? root : at(inner);
        const paths = await filesUnder(start).catch((cause) => {
          throw storeError("unreadable", root, `cannot list ${inner === "" ? "it" : inner}`, cause);
        });
        return paths.map((path) => path.slice(root.length + 1)).sort();
      }),
    remove: (path) =>
      change(path, "remove", async (file) => {
        await rm(file, { recursive: true, force: true }).catch(unless("ENOTDIR"));
        await removeEmptyParents(file, root);
      }),
  };
}

/**
 * The folder at `path`, to read a model from.
 *
 * @throws AttuneError `not-a-folder`
 */
export async function openFolder(path: string): Promise<Pick<Store, "describe" | "read">> {
  const found = await stat(path).catch((cause) => {
    if (codeOf(cause) === "ENOENT" || codeOf(cause) === "ENOTDIR") return undefined;
    throw storeError("unreadable", path, "cannot open the folder", cause);
  });
  if (found?.isDirectory()) return fileStore(path);
  const what = found === undefined ? "there is nothing at this path" : "this is a file";
  throw new AttuneError("not-a-folder", `${path}: expected a folder, ${what}; check the path`);
}

/** Writes beside the file and renames over it, with the bytes on the disk before the name is. */
async function replaceFile(file: string, bytes: Uint8Array): Promise<void> {
  const temporary = file + RESERVED_ENDING;
  try {
    const handle = await open(temporary, "w");
    try {
      await handle.writeFile(bytes);
      await handle.sync();
    } finally {
      await handle.close();
    }
    await rename(temporary, file);
  } catch (cause) {
    await rm(temporary, { force: true }).catch(() => undefined); // the first error is the one to report
    throw cause;
  }
}

/** Appends all of the text or, when the disk is full, none of it. */
async function appendFile(file: string, text: string): Promise<void> {
  const handle = await open(file, "a");
  try {
    const { size } = await handle.stat();
    try {
      await handle.writeFile(text);
    } catch (cause) {
      await handle.truncate(size).catch(() => undefined); // as above
      throw cause;
    }
  } finally {
    await handle.close();
  }
}

/** All files below `start`, or `start` itself when it is a file; none when it is not there. */
async function filesUnder(start: string): Promise<string[]> {
  const entries = await readdir(start, { withFileTypes: true }).catch(unless("ENOENT", "ENOTDIR"));
  if (entries === undefined) return await isFile(start) ? [start] : [];
  const inner = entries.filter((entry) => !entry.name.endsWith(RESERVED_ENDING)).map((entry) => {
    const path = `${start}/${entry.name}`;
    return entry.isDirectory() ? filesUnder(path) : [path];
  });
  return (await Promise.all(inner)).flat();
}

const isFile = async (path: string): Promise<boolean> =>
  (await stat(path).catch(unless("ENOENT", "ENOTDIR")))?.isFile() ?? false;

/** A folder that lost its last file is no longer there, as in the stores that know files only. */
async function removeEmptyParents(file: string, root: string): Promise<void> {
  for (let folder = parentOf(file); folder.length > root.length; folder = parentOf(folder)) {
    if (await readdir(folder).then((names) => names.length > 0, unless("ENOENT", "ENOTDIR"))) return;
    await rmdir(folder).catch(unless("ENOENT", "ENOTDIR"));
  }
}

const parentOf = (path: string): string => path.slice(0, path.lastIndexOf("/"));

/** Turns the errors with one of these codes into undefined. */
const unless = (...codes: string[]) => (cause: unknown): undefined => {
  if (!codes.includes(codeOf(cause))) throw cause;
};

const codeOf = (cause: unknown): string =>
  cause instanceof Error && "code" in cause && typeof cause.code === "string" ? cause.code : "";

function kindOf(cause: unknown): "full" | "exists" | "unwritable" {
  const code = codeOf(cause);
  if (["ENOSPC", "EDQUOT", "EFBIG"].includes(code)) return "full";
  return ["EEXIST", "ENOTDIR", "EISDIR", "ENOTEMPTY"].includes(code) ? "exists" : "unwritable";
}
