import { createStore, promisifyRequest } from "idb-keyval";
import { checkPath, concat, inOrder, isUnder, type Store, storeError } from "./store.ts";

/**
 * A store in the browser's IndexedDB database `name`, on pages and in workers.
 *
 * A file is a run of records under the keys [path, 0], [path, 1] …: a write replaces them all in one transaction, an
 * append adds one, so that a growing log costs its new text only.
 */
export function idbStore(name = "attune"): Store {
  const describe = `browser database "${name}"`;
  const use = createStore(name, "files");
  const queue = inOrder();

  const change = (path: string, verb: string, task: (files: IDBObjectStore) => void | Promise<void>): Promise<void> =>
    queue(async () => {
      checkPath(path);
      try {
        await use("readwrite", async (files) => {
          await task(files);
          await promisifyRequest(files.transaction);
        });
      } catch (cause) {
        if (cause instanceof Conflict) {
          throw storeError("exists", describe, `cannot ${verb} ${path}, ${cause.path} is there`);
        }
        throw storeError(kindOf(cause), describe, `cannot ${verb} ${path}`, cause);
      }
    });

  const look = async <T>(what: string, task: (files: IDBObjectStore) => Promise<T>): Promise<T> => {
    try {
      return await use("readonly", task);
    } catch (cause) {
      throw storeError("unreadable", describe, what, cause);
    }
  };

  return {
    describe,
    read: (path) =>
      queue(async () => {
        const parts = recordsOf(checkPath(path));
        const records: Uint8Array[] = await look(
          `cannot read ${path}`,
          (files) => promisifyRequest(files.getAll(parts)),
        );
        return records.length === 0 ? undefined : concat(records);
      }),
    write: (path, bytes) =>
      change(path, "write", async (files) => {
        await refuseConflict(files, path);
        files.delete(recordsOf(path));
        files.put(whole(bytes), [path, 0]);
      }),
    append: (path, text) =>
      change(path, "append to", async (files) => {
        await refuseConflict(files, path);
        const last = await promisifyRequest(files.openKeyCursor(recordsOf(path), "prev"));
        files.put(new TextEncoder().encode(text), [path, last === null ? 0 : partOf(last.key) + 1]);
      }),
    list: (folder = "") =>
      queue(async () => {
        if (folder !== "") checkPath(folder);
        const keys = await look("cannot list it", (files) => promisifyRequest(files.getAllKeys()));
        return [...new Set(keys.map(pathOf))].filter((path) => isUnder(path, folder)).sort();
      }),
    remove: (path) =>
      change(path, "remove", (files) => {
        files.delete(recordsOf(path));
        files.delete(recordsBelow(path));
      }),
  };
}

/** The keys of one file: an array sorts after every number. */
const recordsOf = (path: string): IDBKeyRange => IDBKeyRange.bound([path], [path, []]);

/** The keys of all files in a folder: "0" is the character after "/". */
const recordsBelow = (folder: string): IDBKeyRange => IDBKeyRange.bound([`${folder}/`], [`${folder}0`], false, true);

const pathOf = (key: IDBValidKey): string => Array.isArray(key) ? String(key[0]) : String(key);

const partOf = (key: IDBValidKey): number => Array.isArray(key) ? Number(key[1]) : 0;

/** A view is stored with all of the memory that it looks at, so it is cut out first. */
const whole = (bytes: Uint8Array): Uint8Array =>
  bytes.byteLength === bytes.buffer.byteLength ? bytes : new Uint8Array(bytes);

/** Signals that `path` is a file where a folder is needed, or lies in a folder where a file is needed. */
class Conflict extends Error {
  readonly path: string;

  constructor(path: string) {
    super();
    this.path = path;
  }
}

async function refuseConflict(files: IDBObjectStore, path: string): Promise<void> {
  const names = path.split("/");
  const folders = names.slice(1).map((_, i) => recordsOf(names.slice(0, i + 1).join("/")));
  for (const range of [...folders, recordsBelow(path)]) {
    const key = await promisifyRequest(files.getKey(range));
    if (key !== undefined) throw new Conflict(pathOf(key));
  }
}

const kindOf = (cause: unknown): "full" | "unwritable" =>
  cause instanceof DOMException && cause.name === "QuotaExceededError" ? "full" : "unwritable";
