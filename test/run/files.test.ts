import { describe, expect, it } from "vitest";
import { appendLine, cutBack, readMetrics } from "../../src/run/logs.ts";
import { curvesSvg, ticks } from "../../src/run/svg.ts";
import { memoryStore } from "../../src/storage/memory.ts";

describe("logs", () => {
  const bytes = (text: string): Uint8Array => new TextEncoder().encode(text);

  it("are cut back to a step, without a line that was cut off", async () => {
    const store = memoryStore();
    for (const step of [1, 1, 2, 3]) await appendLine(store, "samples.jsonl", { step, text: "a\nb" });
    await store.append("samples.jsonl", '{"step":3,"te');
    await cutBack(store, "samples.jsonl", 2);
    expect(new TextDecoder().decode(await store.read("samples.jsonl"))).toBe(
      '{"step":1,"text":"a\\nb"}\n{"step":1,"text":"a\\nb"}\n{"step":2,"text":"a\\nb"}\n',
    );
  });

  it("are removed when nothing is left, and may be absent", async () => {
    const store = memoryStore();
    await appendLine(store, "metrics.jsonl", { step: 1 });
    await cutBack(store, "metrics.jsonl", 0);
    await cutBack(store, "samples.jsonl", 0);
    expect(await store.list()).toEqual([]);
  });

  it("give metrics back, not-finite ones as null", async () => {
    const store = memoryStore();
    await appendLine(store, "metrics.jsonl", { step: 1, loss: NaN, reward: 2 });
    await store.append("metrics.jsonl", '{"step":2,"lo');
    expect(await readMetrics(store)).toEqual([{ step: 1, metrics: { loss: null, reward: 2 } }]);
    await store.write("metrics.jsonl", bytes(""));
    expect(await readMetrics(store)).toEqual([]);
  });
});

describe("curves", () => {
  it("have round ticks that span the values", () => {
    expect(ticks(0, 10)).toEqual([0, 5, 10]);
    expect(ticks(-0.13, 0.31)).toEqual([-0.2, 0, 0.2, 0.4]);
    expect(ticks(1, 1)).toEqual([1]);
  });

  it("draw each metric that is there as one path", () => {
    const lines = [1, 2, 3].map((step) => ({ step, metrics: { reward: step * step, loss: step === 2 ? null : 1 } }));
    const svg = curvesSvg("a < b", lines, { reward: "reward", loss: "loss", kl: "KL" });
    expect(svg).toContain("a &lt; b");
    expect(svg).not.toContain("KL");
    const paths = [...svg.matchAll(/<path d="(M[^"]*)" fill="none" stroke="#\w+" stroke-width/g)].map(([, d]) => d);
    // The x axis runs from 64 to 624; y of the reward from 1 to 9 within ticks 0 to 10, 168 pixels high from 56 to 224.
    expect(paths).toEqual(["M64.0 207.2L344.0 156.8L624.0 72.8", "M64.0 372.0L624.0 372.0"]);
  });

  it("are a picture even of nothing", () =>
    expect(curvesSvg("empty", [], { loss: "loss" })).toMatch(/^<svg[^]*<\/svg>\n$/));
});
