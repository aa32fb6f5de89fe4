import { checkPath, concat, inOrder, isUnder, type Store, storeError } from "./store.ts";

/** A store that lasts as long as the page or process. More than `capacity` bytes in all is `store-full`. */
export function memoryStore({ capacity = Infinity }: { readonly capacity?: number } = {}): Store {
  const files = new Map<string, Uint8Array<ArrayBuffer>>();
  const describe = "memory";
  const queue = inOrder();

  const put = (path: string, bytes: Uint8Array<ArrayBuffer>): void => {
    for (const other of files.keys()) {
      if (other !== path && (isUnder(other, path) || isUnder(path, other))) {
        throw storeError("exists", describe, `cannot write ${path}, ${other} is there`);
      }
    }
    let used = bytes.length;
    for (const [name, file] of files) if (name !== path) used += file.length;
    if (used > capacity) throw storeError("full", describe, `cannot write ${path}, ${used} bytes of ${capacity}`);
    files.set(path, bytes);
  };

  return {
    describe,
    read: (path) => queue(() => files.get(checkPath(path))?.slice()),
    write: (path, bytes) => queue(() => put(checkPath(path), new Uint8Array(bytes))),
    append: (path, text) =>
      queue(() => put(checkPath(path), concat([files.get(path), new TextEncoder().encode(text)]))),
    list: (folder = "") =>
      queue(() => {
        if (folder !== "") checkPath(folder);
        return [...files.keys()].filter((path) => isUnder(path, folder)).sort();
      }),
    remove: (path) =>
      queue(() => {
        checkPath(path);
        for (const name of [...files.keys()]) if (isUnder(name, path)) files.delete(name);
      }),
  };
}
