import { afterEach, describe, expect, it, vi } from "vitest";
import { idbStore } from "../../src/storage/idb.ts";
import { bytesOf, codeOf, describeStore, textOf } from "../storage/suite.ts";

let count = 0;
const newName = (): string => `attune-test-${Date.now()}-${count++}`;
const names = new Map<string, string>();

function open(name: string) {
  const store = idbStore(name);
  names.set(store.describe, name);
  return Promise.resolve(store);
}

describeStore("IndexedDB store", () => open(newName()), (store) => open(names.get(store.describe) ?? ""));

describe("IndexedDB store", () => {
  afterEach(() => {
    vi.restoreAllMocks();
  });

  it("appends beyond nine records in order", async () => {
    const store = await open(newName());
    const text = Array.from({ length: 250 }, (_, i) => `${i}\n`);
    for (const line of text) await store.append("log", line);
    expect(textOf(await store.read("log"))).toBe(text.join(""));
  });

  it("reports a full quota and keeps the old file", async () => {
    const store = await open(newName());
    await store.write("f", bytesOf("old"));
    vi.spyOn(IDBObjectStore.prototype, "put").mockImplementation(function (this: IDBObjectStore) {
      this.transaction.abort();
      throw new DOMException("", "QuotaExceededError");
    });
    expect(await codeOf(store.write("f", bytesOf("new")))).toBe("store-full");
    expect(await codeOf(store.append("f", "new"))).toBe("store-full");
    vi.restoreAllMocks();
    expect(textOf(await store.read("f"))).toBe("old");
  });

  it("reports a database that cannot be opened", async () => {
    vi.spyOn(indexedDB, "open").mockImplementation(() => {
      throw new DOMException("denied", "SecurityError");
    });
    const store = await open(newName());
    expect(await codeOf(store.write("f", bytesOf("x")))).toBe("store-unwritable");
    expect(await codeOf(store.read("f"))).toBe("store-unreadable");
  });
});
