import { expect, it } from "vitest";
import rng from "../../shaders/common/rng.wgsl" with { type: "text" };
import { philox, Rng } from "../../src/core/rng.ts";
import { apply, defineOp } from "../../src/graph/op.ts";
import { input } from "../../src/graph/sym.ts";
import { testGpu } from "../support/backends.ts";

type Counter = [number, number, number, number];

/** One Philox block per row of [n, 6]: four words of counter, two of key. */
const philoxOp = defineOp({
  name: "philox",
  shape: ([x]) => [{ shape: [x.shape[0], 4], dtype: "u32" }],
  kernels: ({ inputs: [x], outputs: [y] }) => [{
    name: "philox",
    source: `${rng}
      struct Params { n: u32 }
      @group(0) @binding(0) var<uniform> p: Params;
      @group(0) @binding(1) var<storage, read> x: array<u32>;
      @group(0) @binding(2) var<storage, read_write> y: array<vec4u>;
      @compute @workgroup_size(64)
      fn main(@builtin(global_invocation_id) g: vec3u) {
        let i = 6u * g.x;
        if (g.x < p.n) { y[g.x] = philox(vec4u(x[i], x[i + 1u], x[i + 2u], x[i + 3u]), vec2u(x[i + 4u], x[i + 5u])); }
      }`,
    params: { n: x.shape[0] },
    reads: [x],
    writes: [y],
    workgroups: [Math.ceil(x.shape[0] / 64), 1, 1],
  }],
  grad: "none",
  reference: ({ inputs: [x], args: [data] }) => {
    const rows = Array.from({ length: x.shape[0] }, (_, i) => [...data.subarray(6 * i, 6 * i + 6)]);
    return [Uint32Array.from(rows.flatMap((r) => philox(r.slice(0, 4) as Counter, [r[4], r[5]])))];
  },
});

it("philox on the device gives the bits of src/core/rng.ts", async () => {
  const f = 0xffffffff;
  const draw = new Rng(3);
  const random = Array.from({ length: 1000 }, () => Array.from({ length: 6 }, () => draw.int(2 ** 32)));
  const counted = Array.from({ length: 200 }, (_, i) => [i, 1, 2, 0, 42, 0x73616d70]);
  const rows = [[0, 0, 0, 0, 0, 0], [f, f, f, f, f, f], ...counted, ...random];
  const x = { shape: [rows.length, 6], data: Uint32Array.from(rows.flat()) };
  const [y] = apply(philoxOp, [input("x", x.shape, "u32")], {});
  const got = (await (await (await testGpu()).compile("philox", { outputs: { y }, effects: [] })).run({ x })).y;
  // Known answers of the Random123 library.
  expect([...got.subarray(0, 8)]).toEqual([
    0x6627e8d5,
    0xe169c58d,
    0xbc57ac4c,
    0x9b00dbd8,
    0x408f276d,
    0x41c83b0e,
    0xa20bc7c6,
    0x6d5451fd,
  ]);
  expect([...got]).toEqual(rows.flatMap((r) => philox(r.slice(0, 4) as Counter, [r[4], r[5]])));
});
