import { describe, expect, it } from "vitest";
import { answerOf, checkAnswer, taskNames, verifiableRows } from "../../src/data/tasks/verifiable.ts";

describe("verifiable tasks", () => {
  it("knows the answers", () => {
    expect(answerOf("add 12 79")).toBe("91");
    expect(answerOf("compare 12 7")).toBe(">");
    expect(answerOf("compare 9 10")).toBe("<");
    expect(answerOf("compare 5 5")).toBe("=");
    expect(answerOf("sort 10 9 2 9")).toBe("2 9 9 10");
    expect(answerOf("brackets ([]{")).toBe("})");
  });

  it("accepts the answer alone, whatever the spaces around it", () => {
    expect(checkAnswer("sort 3 1 2", " 1 2  3\n")).toBe(1);
    for (const wrong of ["", "1 2", "3 2 1", "1 2 3 4", "1 2 3.", "123"]) {
      expect(checkAnswer("sort 3 1 2", wrong)).toBe(0);
    }
    expect(checkAnswer("add 1 1", "02")).toBe(0);
  });

  it("writes prompts that it can solve, of every task and size", () => {
    for (const size of [1, 2, 5]) {
      const rows = verifiableRows({ seed: 4, split: "train", count: 400, size });
      for (const { prompt, completion } of rows) expect(checkAnswer(prompt, completion), prompt).toBe(1);
      const counts = taskNames.map((name) => rows.filter((row) => row.prompt.startsWith(name)).length);
      expect(Math.min(...counts)).toBeGreaterThan(60); // a quarter of 400 each, sd 9
    }
    const compared = verifiableRows({ seed: 1, split: "train", count: 300, names: ["compare"] });
    for (const sign of ["<", "=", ">"]) {
      expect(compared.filter((row) => row.completion === sign).length).toBeGreaterThan(40);
    }
  });

  it("closes brackets so that the whole is balanced", () => {
    for (
      const { prompt, completion } of verifiableRows({
        seed: 8,
        split: "train",
        count: 100,
        names: ["brackets"],
        size: 6,
      })
    ) {
      let text = prompt.slice("brackets ".length) + completion;
      while (/\(\)|\[\]|\{\}/.test(text)) text = text.replaceAll(/\(\)|\[\]|\{\}/g, "");
      expect(text).toBe("");
    }
  });

  it("draws other prompts to hold out", () => {
    const rows = (split: "train" | "heldout") => verifiableRows({ seed: 1, split, count: 50, size: 4, names: ["add"] });
    const seen = new Set(rows("train").map((row) => row.prompt));
    expect(rows("heldout").some((row) => seen.has(row.prompt))).toBe(false);
  });

  it("refuses other prompts and tasks", () => {
    const others = [
      "add 1",
      "add 1 2 3",
      "add one two",
      "compare 1",
      "sort",
      "sort 5",
      "brackets (]",
      "brackets ()",
      "brackets a",
      "",
      "toString 1",
    ];
    for (const prompt of others) expect(() => answerOf(prompt), prompt).toThrow(/expected a prompt such as/);
    expect(() => verifiableRows({ seed: 1, split: "train", count: 1, size: 0 })).toThrow(/size from 1 to 9; got 0/);
    expect(() => verifiableRows({ seed: 1, split: "train", count: 1, names: ["ad" as "add"] })).toThrow(
      /did you mean "add"/,
    );
  });
});
