/** Runs traces through the ops' float64 references: the test of the compiler, and the one path without a GPU. */
import { assert, AttuneError } from "../core/errors.ts";
import { numel, type TensorData } from "../core/shape.ts";
import type { RefArray } from "../graph/op.ts";
import type { Sym, Variable } from "../graph/sym.ts";
import { rootOf, schedule, type Trace, variablesOf } from "../graph/trace.ts";
import { type Backend, inputData, type Inputs, type Plan, type RunOptions } from "./backend.ts";

export function interpreter(): Backend {
  const memory = new Map<Variable, RefArray>();
  const bytes = (): number => [...memory.values()].reduce((n, a) => n + a.byteLength, 0);
  let peak = 0;

  /** The storage of a variable, as a view that shares memory with its root. */
  const data = (v: Variable): RefArray => {
    const root = rootOf(v);
    const all = memory.get(root) ?? alloc(root.dtype, numel(root.shape));
    memory.set(root, all);
    peak = Math.max(peak, bytes());
    const start = v.view?.offset ?? 0;
    return all.subarray(start, start + numel(v.shape));
  };

  return {
    adapter: "interpreter",
    compile: (label, trace) => Promise.resolve(interpretedPlan(label, trace, data)),
    upload(v, values) {
      if (values.length !== numel(v.shape)) {
        throw new AttuneError("upload-size", `${v.name} has ${numel(v.shape)} elements, got ${values.length}`);
      }
      data(v).set(values);
    },
    download: (v) => Promise.resolve(toHost(data(v))),
    free(variables) {
      for (const v of variables) memory.delete(v);
    },
    memory: () => ({ bytes: bytes(), peak }),
  };
}

function interpretedPlan(label: string, trace: Trace, data: (v: Variable) => RefArray): Plan {
  const nodes = schedule(trace);
  const variables = variablesOf(nodes).reduce((n, v) => n + 8 * numel(v.shape), 0);

  const once = (inputs: Inputs): Map<Sym, RefArray> => {
    const values = new Map<Sym, RefArray>();
    const valueOf = (s: Sym): RefArray => {
      const v = values.get(s);
      assert(v !== undefined, `%${s.node.id} is used before it is computed`);
      return v;
    };
    for (const node of nodes) {
      const { source } = node;
      if (source.kind === "input") {
        const [{ shape, dtype }] = node.outputs;
        values.set(
          node.outputs[0],
          toReference(inputData({ name: source.name, shape, dtype, derive: source.derive }, inputs)),
        );
      } else if (source.kind === "variable") {
        values.set(node.outputs[0], data(source.variable));
      } else if (source.kind === "constant") {
        values.set(node.outputs[0], toReference(source.tensor.data));
      } else {
        const args = node.inputs.map(valueOf);
        const results = source.op.reference({ inputs: node.inputs, outputs: node.outputs, attrs: source.attrs, args });
        node.outputs.forEach((o, i) => {
          assert(
            results[i]?.length === numel(o.shape),
            `${source.op.name}: the reference gave ${results[i]?.length} elements for [${o.shape}]`,
          );
          values.set(o, results[i]);
        });
      }
    }
    return values;
  };

  return {
    label,
    budget: { variables, slots: 0, inputs: 0, constants: 0 },
    run(inputs: Inputs, { repeat = 1 }: RunOptions = {}) {
      let values = once(inputs);
      for (let i = 1; i < repeat; i++) values = once(inputs);
      return Promise.resolve(
        Object.fromEntries(
          Object.entries(trace.outputs).map(([name, s]) => [name, toHost(values.get(s) ?? alloc(s.dtype, 0))]),
        ),
      );
    },
    toString: () => `${label}: ${nodes.length} nodes, interpreted`,
  };
}

const alloc = (dtype: string, n: number): RefArray => dtype === "u32" ? new Uint32Array(n) : new Float64Array(n);
const toReference = (d: TensorData): RefArray => d instanceof Uint32Array ? d : Float64Array.from(d);
const toHost = (d: RefArray): TensorData => d instanceof Uint32Array ? d.slice() : Float32Array.from(d);
