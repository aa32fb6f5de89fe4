/**
 * Learning-rate schedules: pure functions from the step, counted from 0, to the factor of the base learning rate.
 * The formulas of Hugging Face's `get_scheduler`; under warmup the factor of step 0 is 0.
 */
import { AttuneError, unknownName } from "../core/errors.ts";

export interface ScheduleOptions {
  /** Steps over which the factor rises linearly from 0 to 1. Default 0. */
  readonly warmupSteps?: number;
  /** Steps of the whole run, warmup included. */
  readonly totalSteps: number;
}

export type Schedule = (step: number) => number;

/** The factor after warmup, from the part of the remaining steps that is done (above 1 once the run is over). */
const SHAPES = {
  constant: () => 1,
  linear: (done: number) => Math.max(0, 1 - done),
  // Half a period; at and after the end it stays at the formula's value, as there.
  cosine: (done: number) => Math.max(0, 0.5 * (1 + Math.cos(Math.PI * done))),
} as const;

export type ScheduleName = keyof typeof SHAPES;

export const scheduleNames = Object.keys(SHAPES) as readonly ScheduleName[];

/** The schedule of that name. Errors: `unknown-schedule`, `schedule-steps`. */
export function schedule(name: ScheduleName, { warmupSteps = 0, totalSteps }: ScheduleOptions): Schedule {
  const shape = SHAPES[name];
  if (shape === undefined) throw unknownName("schedule", name, scheduleNames);
  if (!(warmupSteps >= 0 && totalSteps >= 0)) {
    throw new AttuneError(
      "schedule-steps",
      `schedule: warmupSteps and totalSteps are counts, got ${warmupSteps} and ${totalSteps}`,
    );
  }
  const rest = Math.max(1, totalSteps - warmupSteps);
  return (step) => step < warmupSteps ? step / Math.max(1, warmupSteps) : shape((step - warmupSteps) / rest);
}
