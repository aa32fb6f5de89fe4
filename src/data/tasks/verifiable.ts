/** Verifiable tasks G2: prompts with one right answer, which a checker finds from the prompt alone. */
import { AttuneError, unknownName } from "../../core/errors.ts";
import { Rng } from "../../core/rng.ts";
import type { CompletionRow } from "../rows.ts";

export type TaskName = "add" | "compare" | "sort" | "brackets";

interface Task {
  /** Draws what follows the task's name in a prompt; `size` makes it longer. */
  sample(rng: Rng, size: number): string;
  /** The answer, or undefined for a text that `sample` could not have written. */
  solve(text: string): string | undefined;
}

const closing: Readonly<Record<string, string>> = { "(": ")", "[": "]", "{": "}" };

/** Sizes: digits of a number (add, compare), how many numbers (sort), how deep (brackets). */
const tasks: Readonly<Record<TaskName, Task>> = {
  // "add 12 7" -> "19"
  add: {
    sample: (rng, size) => `${rng.int(10 ** size)} ${rng.int(10 ** size)}`,
    solve: (text) => {
      const numbers = numbersOf(text);
      return numbers?.length === 2 ? String(numbers[0] + numbers[1]) : undefined;
    },
  },
  // "compare 12 7" -> ">"; a quarter of the prompts hold the same number twice
  compare: {
    sample: (rng, size) => {
      const first = rng.int(10 ** size);
      return `${first} ${rng.int(4) === 0 ? first : rng.int(10 ** size)}`;
    },
    solve: (text) => {
      const numbers = numbersOf(text);
      if (numbers?.length !== 2) return undefined;
      return numbers[0] < numbers[1] ? "<" : numbers[0] > numbers[1] ? ">" : "=";
    },
  },
  // "sort 5 31 9" -> "5 9 31"
  sort: {
    sample: (rng, size) => Array.from({ length: size + 1 }, () => rng.int(100)).join(" "),
    solve: (text) => numbersOf(text)?.sort((a, b) => a - b).join(" "),
  },
  // "brackets ([]{" -> "})": what closes the ones still open
  brackets: {
    sample: (rng, size) => {
      let text = "";
      for (let open = 0; open < size; open++) {
        text += rng.pick(["(", "[", "{"]);
        if (rng.int(3) === 0) text += rng.pick(["()", "[]", "{}"]);
      }
      return text;
    },
    solve: (text) => {
      const open: string[] = [];
      for (const char of text) {
        if (char in closing) open.push(closing[char]);
        else if (open.pop() !== char) return undefined;
      }
      return open.length === 0 ? undefined : open.reverse().join("");
    },
  },
};

export const taskNames: readonly TaskName[] = ["add", "compare", "sort", "brackets"];

export interface TaskDraw {
  readonly seed: number;
  readonly split: "train" | "heldout";
  readonly count: number;
  /** Which tasks to mix, in equal shares; all by default. */
  readonly names?: readonly TaskName[];
  /** 1 is the easiest; 2 by default. */
  readonly size?: number;
}

const streams = { train: 0x7800, heldout: 0x7801 } as const;

/**
 * Prompts with their right answers, for supervised training; reinforcement learning takes the prompts alone.
 *
 * @throws AttuneError `unknown-task`, `task-size`
 */
export function verifiableRows({ seed, split, count, names = taskNames, size = 2 }: TaskDraw): CompletionRow[] {
  if (!Number.isInteger(size) || size < 1 || size > 9) {
    throw new AttuneError("task-size", `expected a task size from 1 to 9; got ${size}`);
  }
  const unknown = names.find((name) => !taskNames.includes(name));
  if (unknown !== undefined || names.length === 0) throw unknownName("task", unknown ?? "", taskNames);
  const rng = new Rng(seed, streams[split]);
  return Array.from({ length: count }, () => {
    const name = rng.pick(names);
    const prompt = `${name} ${tasks[name].sample(rng, size)}`;
    return { prompt, completion: answerOf(prompt) };
  });
}

/** The right answer. @throws AttuneError `task-prompt` for a text that is no prompt of these tasks */
export function answerOf(prompt: string): string {
  const [, name, text] = /^([a-z]+) (.+)$/.exec(prompt) ?? [];
  const answer = taskNames.find((known) => known === name);
  const solved = answer === undefined ? undefined : tasks[answer].solve(text);
  if (solved === undefined) {
    throw new AttuneError(
      "task-prompt",
      `expected a prompt such as "add 12 7", "compare 12 7", "sort 5 31 9" or "brackets ([{"; got ${
        JSON.stringify(prompt)
      }`,
    );
  }
  return solved;
}

/** 1 when the completion is the answer and nothing else (spaces around and between its parts aside), else 0. */
export const checkAnswer = (prompt: string, completion: string): 0 | 1 =>
  completion.trim().split(/\s+/).join(" ") === answerOf(prompt) ? 1 : 0;

function numbersOf(text: string): number[] | undefined {
  return /^\d+( \d+)+$/.test(text) ? text.split(" ").map(Number) : undefined;
}
