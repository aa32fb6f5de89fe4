/** One GPU per test file: opened on first use, closed when the file's tests end. */
import { afterAll } from "vitest";
import { openGpu } from "../../src/gpu/device.ts";
import { type GpuBackend, gpuBackend } from "../../src/plan/compile.ts";

let backend: Promise<GpuBackend> | undefined;

/** The file's GPU backend. */
export const testGpu = (): Promise<GpuBackend> => backend ??= openGpu().then((gpu) => gpuBackend(gpu));

afterAll(async () => {
  (await backend)?.gpu.close();
});
