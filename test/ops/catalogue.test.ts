/// <reference types="vite/client" />
/** Every op is in the catalogue under a name of its own, and every op has its test. */
import { describe, expect, it } from "vitest";
import { catalogue } from "../../src/ops/index.ts";

const sources = import.meta.glob<string>("../../src/ops/*.ts", { query: "?raw", import: "default", eager: true });
const tests = import.meta.glob<string>("./*.test.ts", { query: "?raw", import: "default", eager: true });

/** Names of the records that src/ops declares: `export const xOp`. */
const declared = Object.values(sources).flatMap((source) =>
  [...source.matchAll(/export const (\w+Op)\b/g)].map((m) => m[1])
);

describe("the catalogue", () => {
  it("names every op once", () => {
    const names = catalogue.map((op) => op.name);
    expect(new Set(names).size).toBe(names.length);
    const index = sources["../../src/ops/index.ts"];
    expect(declared.filter((name) => !new RegExp(`\\b${name}\\b`).test(index))).toEqual([]);
    expect(declared.length).toBeGreaterThan(30);
  });

  it("has a test for every op", () => {
    const text = Object.values(tests).join("\n");
    // By its record, or, for ops that write variables, by the function that callers use.
    const tested = (name: string): boolean =>
      new RegExp(`\\b(${name}|${name.replace(/Op$/, "")})\\(|\\b${name}\\b`).test(text);
    expect(declared.filter((name) => !tested(name))).toEqual([]);
  });
});
