/** A traced computation and its order of execution. */
import type { Effect } from "./op.ts";
import type { Node, Sym, Variable } from "./sym.ts";

/** What a plan computes: named outputs that come back to the host, and effects on variables. */
export interface Trace {
  readonly outputs: Readonly<Record<string, Sym>>;
  readonly effects: readonly Effect[];
}

/** All nodes that the trace needs, in order of execution (the order in which they were made). */
export function schedule(trace: Trace): Node[] {
  const seen = new Set<Node>();
  const stack: Node[] = [...trace.effects, ...Object.values(trace.outputs).map((s) => s.node)];
  for (let node = stack.pop(); node !== undefined; node = stack.pop()) {
    if (seen.has(node)) continue;
    seen.add(node);
    for (const s of node.inputs) stack.push(s.node);
  }
  return [...seen].sort((a, b) => a.id - b.id);
}

/** The variable that owns the storage. */
export const rootOf = (v: Variable): Variable => v.view?.base ?? v;

/** Variables that the trace reads or writes, each root once. */
export function variablesOf(nodes: readonly Node[]): Variable[] {
  const roots = new Set<Variable>();
  for (const { source } of nodes) if (source.kind === "variable") roots.add(rootOf(source.variable));
  return [...roots];
}
