/** Compute pipelines: compiled asynchronously, in parallel, once per shader, constants and binding counts. */
import { AttuneError } from "../core/errors.ts";

export interface PipelineKey {
  readonly name: string;
  readonly source: string;
  readonly constants: Readonly<Record<string, number>>;
  readonly reads: number;
  readonly writes: number;
}

export interface Pipeline {
  readonly pipeline: GPUComputePipeline;
  readonly layout: GPUBindGroupLayout;
}

/** Gives the pipeline of a key; equal keys share one. Errors: `shader`, with the shader's own lines. */
export type Pipelines = (key: PipelineKey) => Promise<Pipeline>;

export function pipelineCache(device: GPUDevice): Pipelines {
  const pipelines = new Map<string, Promise<Pipeline>>();
  const layouts = new Map<string, GPUBindGroupLayout>();

  const layoutFor = (reads: number, writes: number): GPUBindGroupLayout => {
    const key = `${reads},${writes}`;
    const known = layouts.get(key);
    if (known !== undefined) return known;
    const types: GPUBufferBindingType[] = [
      "uniform",
      ...Array<"read-only-storage">(reads).fill("read-only-storage"),
      ...Array<"storage">(writes).fill("storage"),
    ];
    const layout = device.createBindGroupLayout({
      entries: types.map((type, binding) => ({ binding, visibility: GPUShaderStage.COMPUTE, buffer: { type } })),
    });
    layouts.set(key, layout);
    return layout;
  };

  const build = async ({ name, source, constants, reads, writes }: PipelineKey): Promise<Pipeline> => {
    const module = device.createShaderModule({ label: name, code: source });
    const layout = layoutFor(reads, writes);
    try {
      const pipeline = await device.createComputePipelineAsync({
        label: name,
        layout: device.createPipelineLayout({ bindGroupLayouts: [layout] }),
        compute: { module, entryPoint: "main", constants },
      });
      return { pipeline, layout };
    } catch (cause) {
      const { messages } = await module.getCompilationInfo();
      const lines = source.split("\n");
      const detail = messages.map((m) =>
        `${name}.wgsl:${m.lineNum}:${m.linePos}: ${m.message}\n  ${lines[m.lineNum - 1] ?? ""}`
      ).join("\n");
      const message = detail || (cause instanceof Error ? cause.message : String(cause));
      throw new AttuneError(
        "shader",
        `internal: shader ${name} does not compile with ${JSON.stringify(constants)}\n${message}`,
        { cause },
      );
    }
  };

  return (key) => {
    const id = JSON.stringify([key.source, key.constants, key.reads, key.writes]);
    const known = pipelines.get(id) ?? build(key);
    pipelines.set(id, known);
    return known;
  };
}
