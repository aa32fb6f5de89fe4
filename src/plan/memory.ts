/** Memory planning: temporaries share whole buffers ("slots") when their lifetimes do not meet. */

/** A temporary that is alive from dispatch `first` to dispatch `last`, both included. */
export interface Lifetime {
  readonly bytes: number;
  first: number;
  last: number;
}

export interface SlotPlan {
  /** Size of each slot, largest first. */
  readonly slots: readonly number[];
  /** The slot of each lifetime, in the order given. */
  readonly assignment: readonly number[];
}

/**
 * Greedy by size (Pisarchyk & Lee 2020, arXiv:2001.03288, "shared objects"): the largest temporaries choose first, each
 * takes the smallest slot that is free over its whole life. Whole buffers, not ranges of one arena: a dispatch that
 * reads and writes two ranges of one buffer is invalid in WebGPU.
 */
export function planSlots(lifetimes: readonly Lifetime[]): SlotPlan {
  const order = lifetimes.map((_, i) => i).sort((a, b) => lifetimes[b].bytes - lifetimes[a].bytes || a - b);
  const slots: { bytes: number; tenants: Lifetime[] }[] = [];
  const assignment: number[] = new Array(lifetimes.length).fill(-1);
  for (const i of order) {
    const t = lifetimes[i];
    let best = -1;
    slots.forEach((slot, s) => {
      const free = slot.tenants.every((u) => t.last < u.first || u.last < t.first);
      if (free && (best < 0 || slot.bytes <= slots[best].bytes)) best = s;
    });
    if (best < 0) best = slots.push({ bytes: t.bytes, tenants: [] }) - 1;
    slots[best].tenants.push(t);
    assignment[i] = best;
  }
  return { slots: slots.map((s) => s.bytes), assignment };
}
