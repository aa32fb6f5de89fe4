/** The table of texts: before and now, or the first and the best. */
import { byId, hundredths, make, perFrame } from "./dom.ts";

/** One prompt with two texts and their rewards. */
export interface Comparison {
  readonly prompt: string;
  readonly left: string;
  readonly right: string;
  readonly leftReward?: number | undefined;
  readonly rightReward?: number | undefined;
  /** Whether the right text grew out of the left one, so that what changed is worth a mark. */
  readonly related: boolean;
}

/** Stands for a completion that ended at once. */
const NOTHING = "(nothing)";

export interface SampleTable {
  /** Clears the table and names its columns. */
  reset(columns: readonly string[], hint: string): void;
  show(rows: readonly Comparison[]): void;
}

export function createSampleTable(): SampleTable {
  const body = byId("samples-body");
  let labels: readonly string[] = [];
  let rows: readonly Comparison[] = [];

  const draw = perFrame(() => {
    const empty = make("td", { class: "empty", colspan: "4", text: "Texts appear here once a run begins." });
    body.replaceChildren(...rows.length === 0 ? [make("tr", {}, empty)] : rows.map((row) => rowOf(row, labels)));
  });

  return {
    reset(columns, hint) {
      labels = columns;
      rows = [];
      byId("samples-hint").textContent = hint;
      byId("samples-head").replaceChildren(...columns.map((text) => make("th", { scope: "col", text })));
      draw();
    },
    show(comparisons) {
      rows = comparisons;
      draw();
    },
  };
}

function rowOf(
  { prompt, left, right, leftReward, rightReward, related }: Comparison,
  labels: readonly string[],
): HTMLElement {
  const reward = leftReward === undefined || rightReward === undefined
    ? ""
    : `${hundredths(leftReward)} → ${hundredths(rightReward)}`;
  const cells = [
    make("td", { text: prompt }),
    make("td", { text: left === "" ? NOTHING : left }),
    make("td", {}, make("span", {}, ...(related ? changed(left, right) : [new Text(right === "" ? NOTHING : right)]))),
    make("td", { text: reward }),
  ];
  cells.forEach((cell, i) => cell.dataset.label = labels[i]);
  return make("tr", {}, ...cells);
}

/** The right text, with what differs from the left one between their common beginning and end marked. */
function changed(left: string, right: string): Node[] {
  if (left === right || right === "") return [new Text(right === "" ? NOTHING : right)];
  const [a, b] = [left.split(/(?<= )/), right.split(/(?<= )/)]; // words with their blanks
  let start = 0;
  while (start < Math.min(a.length, b.length) && a[start] === b[start]) start++;
  let end = 0;
  while (end < Math.min(a.length, b.length) - start && a[a.length - 1 - end] === b[b.length - 1 - end]) end++;
  const part = (from: number, to: number): string => b.slice(from, to).join("");
  const middle = part(start, b.length - end);
  return [
    new Text(part(0, start)),
    ...(middle === "" ? [] : [make("mark", { text: middle })]),
    new Text(part(b.length - end, b.length)),
  ];
}
