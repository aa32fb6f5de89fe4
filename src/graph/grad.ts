/** Reverse-mode differentiation: walks the trace backwards and lets each op's rule append ordinary nodes. */
import { AttuneError } from "../core/errors.ts";
import { showShape } from "../core/shape.ts";
import { recompute } from "./checkpoint.ts";
import { schedule } from "./trace.ts";
import type { Node, Sym } from "./sym.ts";

/** How two gradients of one value are added, and what the gradient of the loss itself is: ops, so given from above. */
export interface GradOps {
  add(a: Sym, b: Sym): Sym;
  one(): Sym;
}

/**
 * dL/dx for each x of `wrt`, for a scalar `loss`. A value that the loss does not depend on is an error: a parameter
 * that silently does not train is the worst of bugs.
 */
export function gradients(loss: Sym, wrt: readonly Sym[], ops: GradOps): Sym[] {
  if (loss.shape.length !== 0) {
    throw new AttuneError(
      "grad-scalar",
      `a loss is a scalar, got shape ${showShape(loss.shape)}; take its mean or sum`,
    );
  }
  const nodes = schedule({ outputs: { loss }, effects: [] });
  const wanted = dependents(nodes, wrt);
  const total = new Map<Sym, Sym>([[loss, ops.one()]]);
  const replay = recompute(nodes);

  for (const node of nodes.toReversed()) {
    const { source } = node;
    const grads = node.outputs.map((o) => total.get(o));
    if (source.kind !== "op" || !wanted.has(node) || grads.every((g) => g === undefined)) continue;
    if (source.op.grad === "none") {
      throw new AttuneError(
        "grad-none",
        `${source.op.name} has no derivative, but the loss reaches a trained value through it`,
      );
    }
    const needs = node.inputs.map((s) => wanted.has(s.node));
    const saved = replay(node);
    const dInputs = source.op.grad({ inputs: saved.inputs, outputs: saved.outputs, attrs: source.attrs, grads, needs });
    node.inputs.forEach((s, i) => {
      const d = dInputs[i];
      if (d === undefined || !needs[i]) return;
      const before = total.get(s);
      total.set(s, before === undefined ? d : ops.add(before, d));
    });
  }

  return wrt.map((x) => {
    const d = total.get(x);
    if (d !== undefined) return d;
    const name = x.node.source.kind === "variable" ? x.node.source.variable.name : `%${x.node.id}`;
    throw new AttuneError(
      "grad-unused",
      `the loss does not depend on ${name}; leave it out of the trained parameters or use it`,
    );
  });
}

/** Nodes through which the loss reaches one of `wrt`. */
function dependents(nodes: readonly Node[], wrt: readonly Sym[]): Set<Node> {
  const wanted = new Set(wrt.map((s) => s.node));
  for (const node of nodes) if (node.inputs.some((s) => wanted.has(s.node))) wanted.add(node);
  return wanted;
}
