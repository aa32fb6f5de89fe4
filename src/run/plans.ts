/** Tells of the plans that an algorithm compiles, as they are compiled, between its steps. */
import type { StepEvent } from "../algorithms/actors.ts";
import type { Backend, Budget } from "../plan/backend.ts";

/** A plan was compiled: its parts and their sum, in bytes. Plans of one run share slots and variables. */
export interface PlanEvent {
  readonly type: "plan";
  readonly label: string;
  readonly budget: Budget;
  readonly peakBytes: number;
}

export const peakBytes = (b: Budget): number => b.variables + b.slots + b.inputs + b.constants;

export interface PlanFeed {
  /** The next plan that was not taken yet. */
  take(): PlanEvent | undefined;
  /** Settles when a plan comes that was not there at the call. */
  arrived(): Promise<void>;
}

/** The backend with a feed of the plans that are compiled through it. */
export function watchPlans(backend: Backend): { backend: Backend; plans: PlanFeed } {
  const waiting: PlanEvent[] = [];
  let wake = (): void => {};
  return {
    backend: {
      ...backend,
      async compile(label, trace) {
        const plan = await backend.compile(label, trace);
        waiting.push({ type: "plan", label, budget: plan.budget, peakBytes: peakBytes(plan.budget) });
        wake();
        return plan;
      },
    },
    plans: { take: () => waiting.shift(), arrived: () => new Promise((resolve) => wake = resolve) },
  };
}

/** What comes next: a plan, a step, or the end of the steps (no event). */
export type Next = PlanEvent | { readonly type: "step"; readonly event: StepEvent | undefined };

export interface Walk {
  next(): Promise<Next>;
  /** Waits for a step that was begun and gives its event, if it came to one; never throws. */
  settle(): Promise<StepEvent | undefined>;
}

/** Steps and plans in the order in which they come. */
export function interleave(steps: AsyncGenerator<StepEvent>, plans: PlanFeed): Walk {
  let pending: Promise<IteratorResult<StepEvent>> | undefined;
  return {
    async next() {
      if (pending === undefined) {
        pending = steps.next();
        // It may fail while nobody waits for it, after a plan was given out; the next call throws it then.
        pending.catch(() => undefined);
      }
      while (true) {
        const arrived = plans.arrived();
        const plan = plans.take();
        if (plan !== undefined) return plan;
        const result = await Promise.race([pending, arrived]);
        if (result === undefined) continue;
        pending = undefined;
        return { type: "step", event: result.done ? undefined : result.value };
      }
    },
    async settle() {
      const result = await pending?.catch(() => undefined);
      pending = undefined;
      return result === undefined || result.done ? undefined : result.value;
    },
  };
}
