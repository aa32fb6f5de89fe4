/** The GPU device: acquisition, limits, errors and loss. The only module that reads `navigator.gpu`. */
import { AttuneError } from "../core/errors.ts";

export interface Gpu {
  readonly device: GPUDevice;
  /** Vendor, architecture and description of the adapter in one line. */
  readonly adapter: string;
  readonly limits: GPUSupportedLimits;
  readonly features: ReadonlySet<string>;
  /** Throws the AttuneError of a lost device or of an uncaptured error, if there was one. */
  check(): void;
  /** Settles, never rejects, when the device is lost; not on {@link Gpu.close}. */
  readonly lost: Promise<AttuneError>;
  close(): void;
}

/** Features that kernels use where they exist and never need. */
const OPTIONAL_FEATURES = ["shader-f16", "subgroups", "timestamp-query"] as const;

/** Limits raised to what the adapter offers: large models need them. All else keeps to the defaults, so that tests show it. */
const RAISED_LIMITS = ["maxBufferSize", "maxStorageBufferBindingSize"] as const;

/** Opens the adapter with its own limits and features. Errors: `gpu-missing`, `gpu-no-adapter`, `gpu-device`. */
export async function openGpu(): Promise<Gpu> {
  const api: GPU | undefined = globalThis.navigator?.gpu;
  if (api === undefined) {
    throw new AttuneError(
      "gpu-missing",
      "WebGPU is not available here (navigator.gpu is missing); use Deno 2 or a browser with WebGPU, over https or localhost",
    );
  }
  const adapter = await api.requestAdapter({ powerPreference: "high-performance" });
  if (adapter === null) {
    throw new AttuneError(
      "gpu-no-adapter",
      "WebGPU found no adapter; install a GPU driver, or on Linux the software one: apt-get install mesa-vulkan-drivers",
    );
  }
  const requiredLimits = Object.fromEntries(RAISED_LIMITS.map((name) => [name, adapter.limits[name]]));
  const requiredFeatures = OPTIONAL_FEATURES.filter((f) => adapter.features.has(f)) as GPUFeatureName[];
  const device = await adapter.requestDevice({ requiredLimits, requiredFeatures }).catch((cause) => {
    throw new AttuneError(
      "gpu-device",
      `the adapter gave no device: ${cause instanceof Error ? cause.message : cause}`,
      { cause },
    );
  });
  const { vendor, architecture, description } = adapter.info;
  // Deno gives the vendor as a number, which says nothing to a person.
  const names = [vendor, architecture, description].filter((s) => s !== "" && !/^\d+$/.test(s));
  return watch(device, [...new Set(names)].join(" ") || "unnamed adapter");
}

function watch(device: GPUDevice, adapter: string): Gpu {
  let failure: AttuneError | undefined;
  let closed = false;
  device.addEventListener("uncapturederror", (event) => {
    failure ??= new AttuneError("gpu-error", `the GPU reported: ${event.error.message}`);
  });
  const lost = new Promise<AttuneError>((resolve) => {
    device.lost.then(({ reason, message }) => {
      if (closed) return;
      failure = new AttuneError(
        "gpu-lost",
        `the GPU device was lost (${reason}): ${
          message || "no further word"
        }; open it again and resume from the last checkpoint`,
      );
      resolve(failure);
    });
  });
  return {
    device,
    adapter,
    limits: device.limits,
    features: new Set(device.features),
    lost,
    check() {
      if (failure !== undefined) throw failure;
      if (closed) throw new AttuneError("gpu-closed", "the GPU device was closed; open a new one");
    },
    close() {
      closed = true;
      device.destroy();
    },
  };
}
