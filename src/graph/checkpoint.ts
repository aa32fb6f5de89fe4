/**
 * Activation checkpointing (Chen et al. 2016, arXiv:1604.06174) as a transformation of the graph: the nodes of a marked
 * block (`inBlock`) are computed a second time when the backward pass reaches them, so that only the block's inputs
 * stay in memory from the forward to the backward pass. The numbers do not change, not even in the last bit.
 */
import { makeNode, type Node, type Sym } from "./sym.ts";

/** The values of a node as the backward pass shall use them: the node's own, or those of its block's second run. */
export type Replay = (node: Node) => { inputs: readonly Sym[]; outputs: readonly Sym[] };

export function recompute(nodes: readonly Node[]): Replay {
  const blocks = new Map<number, Node[]>();
  for (const node of nodes) {
    if (node.block !== undefined && node.source.kind === "op") {
      blocks.set(node.block, [...(blocks.get(node.block) ?? []), node]);
    }
  }
  const done = new Map<number, Map<Sym, Sym>>();

  return (node) => {
    if (node.block === undefined) return node;
    let copies = done.get(node.block);
    if (copies === undefined) {
      copies = new Map();
      for (const original of blocks.get(node.block) ?? []) {
        const copy = makeNode(original.source, original.inputs.map((s) => copies?.get(s) ?? s), original.outputs);
        original.outputs.forEach((o, i) => copies?.set(o, copy.outputs[i]));
      }
      done.set(node.block, copies);
    }
    const map = (s: Sym): Sym => copies.get(s) ?? s;
    return { inputs: node.inputs.map(map), outputs: node.outputs.map(map) };
  };
}
