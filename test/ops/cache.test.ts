import { describe, expect, it } from "vitest";
import { numel } from "../../src/core/shape.ts";
import { input, read, type Sym, variable } from "../../src/graph/sym.ts";
import { mul } from "../../src/ops/binary.ts";
import { cacheWrite } from "../../src/ops/cache.ts";
import { interpreter } from "../../src/plan/interpret.ts";
import { testGpu } from "../support/backends.ts";
import { normal, tensor } from "../support/check-op.ts";

/** Writes twice into a cache [B, 6, 2, D] on the GPU and in the interpreter; gives what each then holds. */
async function writeTwice(
  T: number,
  D: number,
  B: number,
  offsets: readonly number[] | undefined,
  lengths: readonly number[] | undefined,
) {
  const cache = variable("cache", [B, 6, 2, D]);
  const rowsOf = (name: string): Sym => input(name, [B], "u32");
  const effect = cacheWrite(cache, input("values", [B, T, 2, D]), {
    ...(offsets && { offsets: rowsOf("offsets") }),
    ...(lengths && { lengths: rowsOf("lengths") }),
  });
  // Doubled after the write: must hold the new values.
  const trace = { outputs: { after: mul(read(cache), 2) }, effects: [effect] };
  const before = normal(cache.shape, 1);
  const results = [];
  for (const backend of [await testGpu(), interpreter()]) {
    const plan = await backend.compile("cacheWrite", trace);
    backend.upload(cache, before.data);
    const rows = {
      ...(offsets && { offsets: tensor([B], offsets, "u32") }),
      ...(lengths && { lengths: tensor([B], lengths, "u32") }),
    };
    await plan.run({ values: normal([B, T, 2, D], 2), ...rows });
    const { after } = await plan.run({ values: normal([B, T, 2, D], 3), ...rows });
    results.push({ held: await backend.download(cache), after });
  }
  return { gpu: results[0], reference: results[1], before: before.data, values: normal([B, T, 2, D], 3).data };
}

describe("cacheWrite", () => {
  const cases: [string, number, number, number, number[] | undefined, number[] | undefined][] = [
    ["one step a row", 1, 5, 3, [0, 3, 5], undefined],
    ["several steps, some past the end", 3, 4, 4, [0, 4, 6, 4294967295], undefined],
    ["lengths", 4, 3, 3, [1, 0, 3], [2, 0, 9]],
    ["from position 0", 2, 4, 2, undefined, undefined],
  ];
  for (const [name, T, D, B, offsets, lengths] of cases) {
    it(name, async () => {
      const { gpu, reference, before, values } = await writeTwice(T, D, B, offsets, lengths);
      expect(gpu.held).toEqual(reference.held);
      expect(gpu.after).toEqual(gpu.held.map((x) => 2 * x));
      const inner = 2 * D;
      for (let i = 0; i < numel([B, 6, 2, D]); i++) {
        const b = Math.floor(i / (6 * inner));
        const t = Math.floor(i / inner) % 6 - (offsets?.[b] ?? 0);
        const written = t >= 0 && t < T && t < (lengths?.[b] ?? T);
        expect(gpu.held[i], `element ${i}`).toBe(written ? values[(b * T + t) * inner + i % inner] : before[i]);
      }
    });
  }

  it("says what does not fit", () => {
    const cache = variable("cache", [2, 6, 2, 4]);
    expect(() => cacheWrite(cache, input("v", [2, 1, 3, 4]))).toThrow(
      /the cache is .* got f32\[2,6,2,4\] and f32\[2,1,3,4\]/,
    );
    expect(() => cacheWrite(cache, input("v", [2, 1, 2, 4]), { offsets: input("o", [2]) })).toThrow(
      "cacheWrite: offsets is u32[2], one for each row, got f32[2]",
    );
  });
});
