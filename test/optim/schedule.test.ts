import { describe, expect, it } from "vitest";
import { schedule, scheduleNames } from "../../src/optim/schedule.ts";

const first = (name: (typeof scheduleNames)[number], n: number, warmupSteps: number, totalSteps: number): number[] => {
  const at = schedule(name, { warmupSteps, totalSteps });
  return Array.from({ length: n }, (_, step) => at(step));
};

describe("schedules", () => {
  it("rise linearly from 0 through the warmup, the first full step being step `warmupSteps`", () => {
    for (const name of scheduleNames) expect(first(name, 5, 4, 100)).toEqual([0, 0.25, 0.5, 0.75, 1]);
  });

  it("start at 1 without warmup", () => {
    for (const name of scheduleNames) expect(first(name, 1, 0, 10)).toEqual([1]);
  });

  it("constant stays", () => {
    expect(first("constant", 6, 2, 4)).toEqual([0, 0.5, 1, 1, 1, 1]);
  });

  // After warmup (totalSteps − step) / (totalSteps − warmupSteps), never below 0.
  it("linear falls to 0 at the last step and stays there", () => {
    expect(first("linear", 9, 2, 6)).toEqual([0, 0.5, 1, 0.75, 0.5, 0.25, 0, 0, 0]);
  });

  // ½ (1 + cos(π · done)): quarter points are ½ (1 ± √½).
  it("cosine falls along half a period", () => {
    const got = first("cosine", 7, 2, 6);
    const want = [0, 0.5, 1, (1 + Math.SQRT1_2) / 2, 0.5, (1 - Math.SQRT1_2) / 2, 0];
    got.forEach((x, i) => expect(x).toBeCloseTo(want[i], 12));
  });

  it("survives a warmup as long as the run, or longer", () => {
    expect(first("linear", 4, 3, 3)).toEqual([0, 1 / 3, 2 / 3, 1]);
    expect(first("cosine", 3, 10, 3)).toEqual([0, 0.1, 0.2]);
  });

  it("refuses unknown names and negative counts", () => {
    expect(() => schedule("cosin" as "cosine", { totalSteps: 3 })).toThrow(
      /unknown schedule "cosin"; did you mean "cosine"/,
    );
    expect(() => schedule("linear", { warmupSteps: -1, totalSteps: 3 })).toThrow(/counts, got -1 and 3/);
    expect(() => schedule("linear", { totalSteps: NaN })).toThrow(/counts, got 0 and NaN/);
  });
});
