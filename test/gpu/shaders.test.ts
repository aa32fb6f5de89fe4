import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { complete, shaders } from "../support/shaders.ts";

let device: GPUDevice;

/** Features that some candidate kernels ask for in their first line. */
const features = ["subgroups"] as const;

beforeAll(async () => {
  const adapter = await navigator.gpu.requestAdapter();
  if (!adapter) throw new Error("these tests need a WebGPU adapter");
  // A shader's f16 form is its own concern; the files as they are need nothing beyond the default.
  device = await adapter.requestDevice({
    requiredFeatures: features.filter((f) => adapter.features.has(f)) as GPUFeatureName[],
  });
});

afterAll(() => device.destroy());

/** The compiler's errors, each as "line:column message". */
async function compileErrors(code: string): Promise<string[]> {
  device.pushErrorScope("validation");
  const { messages } = await device.createShaderModule({ code }).getCompilationInfo();
  const refusal = await device.popErrorScope();
  const errors = messages.filter(({ type }) => type === "error");
  const lines = errors.map(({ lineNum, linePos, message }) => `${lineNum}:${linePos} ${message}`);
  return lines.length === 0 && refusal ? [refusal.message] : lines;
}

describe("every shader compiles by itself", () => {
  it.for([...shaders.keys()])("%s", async (path) => {
    const source = complete(shaders.get(path) ?? "");
    const missing = features.some((f) => source.includes(`enable ${f};`) && !device.features.has(f));
    // Where the device lacks the feature the shader must be refused: lowering never offers it there.
    expect(await compileErrors(source)).toEqual(missing ? [expect.stringContaining("subgroup")] : []);
  });

  it("and a faulty one is refused", async () => {
    const errors = await compileErrors("// a comment\nfn f() -> u32 { return 1.5; }");
    expect(errors.length).toBeGreaterThan(0);
    expect(errors.join()).toMatch(/\b2:24\b/); // the place of 1.5, which Deno gives in the message alone
  });
});
