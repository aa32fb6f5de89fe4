import { describe, expect, it } from "vitest";
import { readChecked, writeChecked } from "../../src/storage/checked.ts";
import { memoryStore } from "../../src/storage/memory.ts";
import { bytesOf, codeOf, describeStore, textOf } from "./suite.ts";

describeStore("memory store", () => Promise.resolve(memoryStore()));

describe("memory store with a capacity", () => {
  it("refuses what does not fit and keeps what it holds", async () => {
    const store = memoryStore({ capacity: 10 });
    await store.write("f", bytesOf("12345678"));
    expect(await codeOf(store.write("g", bytesOf("123")))).toBe("store-full");
    expect(await codeOf(store.append("f", "901"))).toBe("store-full");
    expect(textOf(await store.read("f"))).toBe("12345678");
    await store.write("f", bytesOf("0123456789")); // in place of the first, so it fits
    expect(await store.list()).toEqual(["f"]);
  });

  it("leaves no half of a checked folder behind", async () => {
    const store = memoryStore({ capacity: 400 });
    await writeChecked(store, "first", new Map([["a", new Uint8Array(40)]]));
    const second = new Map([["a", new Uint8Array(40)], ["b", new Uint8Array(400)]]);
    expect(await codeOf(writeChecked(store, "second", second))).toBe("store-full");
    expect(await store.list("second")).toEqual([]);
    expect(await readChecked(store, "first")).toEqual(new Map([["a", new Uint8Array(40)]]));
    expect(await codeOf(writeChecked(store, "third", new Map([["manifest.json", new Uint8Array()]])))).toBe(
      "store-path",
    );
  });
});
