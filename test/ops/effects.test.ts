/** Ops that write variables, on the GPU against the interpreter, and the one that stops gradients. */
import { describe, expect, it } from "vitest";
import { gradients } from "../../src/graph/grad.ts";
import { input, read, variable } from "../../src/graph/sym.ts";
import { advance, rowState } from "../../src/ops/advance.ts";
import { accumulate, assign } from "../../src/ops/assign.ts";
import { mul } from "../../src/ops/binary.ts";
import { gradOps } from "../../src/ops/index.ts";
import { sumAll } from "../../src/ops/reduce.ts";
import { stopGradient } from "../../src/ops/stopGradient.ts";
import { program } from "../../src/plan/program.ts";
import { interpreter } from "../../src/plan/interpret.ts";
import { testGpu } from "../support/backends.ts";
import { expectClose, normal, tensor } from "../support/check-op.ts";

describe("assign and accumulate", () => {
  it("write values of both dtypes, and add", async () => {
    const [x, ids] = [normal([3, 7], 1), tensor([5], [4, 0, 4294967295, 7, 1], "u32")];
    for (const backend of [await testGpu(), interpreter()]) {
      const [sum, kept] = [variable("sum", [3, 7]), variable("kept", [5], "u32")];
      const first = program(
        backend,
        "first",
        ({ x, ids }) => ({ outputs: {}, effects: [assign(sum, x), assign(kept, ids)] }),
      );
      const more = program(backend, "more", ({ x }) => ({ outputs: {}, effects: [accumulate(sum, x)] }));
      await first.run({ x, ids });
      await more.run({ x });
      await more.run({ x });
      expectClose(await backend.download(sum), x.data.map((v) => 3 * v), 1e-6, "sum");
      expect(await backend.download(kept)).toEqual(ids.data);
    }
  });

  it("refuse a value of another shape", () => {
    expect(() => assign(variable("v", [2]), input("x", [3]))).toThrow(
      "assign: variable f32[2], value f32[3]; they must be equal",
    );
  });
});

describe("advance", () => {
  it("appends a token a row until an end token or the last place, then leaves the row alone", async () => {
    for (const backend of [await testGpu(), interpreter()]) {
      const [state, tokens, logps] = [
        rowState("rows", 3),
        variable("tokens", [3, 3], "u32"),
        variable("logps", [3, 3]),
      ];
      backend.upload(state.position, Uint32Array.of(4, 0, 9));
      const step = program(backend, "advance", ({ sampled, logp, eos }) => ({
        outputs: { finished: read(state.finished), count: read(state.count), position: read(state.position) },
        effects: [advance(state, tokens, logps, sampled, logp, eos)],
      }));
      const eos = tensor([2], [1, 2], "u32");
      const run = (sampled: number[], logp: number[]) =>
        step.run({ sampled: tensor([3], sampled, "u32"), logp: tensor([3], logp), eos });
      await run([7, 1, 5], [-1, -2, -3]); // row 1 ends at once
      await run([8, 6, 5], [-4, -5, -6]);
      await run([2, 6, 5], [-7, -8, -9]); // row 0 ends with its last place, row 2 runs out of places
      const { finished, count, position } = await run([9, 9, 9], [0, 0, 0]);
      expect([...finished]).toEqual([1, 1, 1]);
      expect([...count]).toEqual([3, 1, 3]);
      expect([...position]).toEqual([7, 1, 12]);
      expect([...await backend.download(tokens)]).toEqual([7, 8, 2, 1, 0, 0, 5, 5, 5]);
      expect([...await backend.download(logps)]).toEqual([-1, -4, -7, -2, 0, 0, -3, -6, -9]);
    }
  });
});

describe("stopGradient", () => {
  it("is the identity without a derivative: d(sg(x) · x) = sg(x)", async () => {
    const x = input("x", [4]);
    const loss = sumAll(mul(stopGradient(x), x));
    const [dx] = gradients(loss, [x], gradOps);
    const values = normal([4], 2);
    const out = await (await (await testGpu()).compile("stop", { outputs: { loss, dx }, effects: [] })).run({
      x: values,
    });
    expect([...out.dx]).toEqual([...values.data]);
    expectClose(out.loss, [values.data.reduce((a, v) => a + v * v, 0)], 1e-6, "loss");
  });
});
