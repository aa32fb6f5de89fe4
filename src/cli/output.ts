/** Where a command's words go: results and text for people, or JSON lines with the text on stderr. */
import { AttuneError } from "../core/errors.ts";

export interface Output {
  readonly json: boolean;
  /** A line for people. */
  say(text: string): void;
  /** A line for programs; nothing happens without --json. */
  emit(value: object): void;
}

export const createOutput = (json: boolean): Output => ({
  json,
  say: json ? (text) => console.error(text) : (text) => console.log(text),
  emit: json ? (value) => console.log(JSON.stringify(value)) : () => {},
});

/** Columns of the terminal; 100 where there is none. */
export function terminalWidth(): number {
  try {
    return Math.min(160, Math.max(60, Deno.consoleSize().columns));
  } catch {
    return 100; // not a terminal
  }
}

/** Breaks a text into lines of at most `width` characters, at spaces where there are any. */
export function wrap(text: string, width: number): string[] {
  const lines: string[] = [];
  for (const paragraph of text.split("\n")) {
    let line = "";
    for (let word of paragraph.split(" ")) {
      if (line !== "" && line.length + 1 + word.length > width) {
        lines.push(line);
        line = "";
      }
      while (word.length > width) {
        lines.push(word.slice(0, width));
        word = word.slice(width);
      }
      line = line === "" ? word : `${line} ${word}`;
    }
    lines.push(line);
  }
  return lines;
}

/** Two texts side by side under their headings. */
export function sideBySide(
  left: readonly [heading: string, text: string],
  right: readonly [heading: string, text: string],
  width: number,
): string {
  const column = Math.floor((width - 5) / 2);
  const [a, b] = [left, right].map(([heading, text]) => [heading, ...wrap(text === "" ? "(nothing)" : text, column)]);
  return Array.from(
    { length: Math.max(a.length, b.length) },
    (_, i) => `  ${(a[i] ?? "").padEnd(column)} | ${b[i] ?? ""}`.trimEnd(),
  ).join("\n");
}

/** Rows of cells in columns as wide as their widest cell; numbers stand right. */
export function table(rows: readonly (readonly string[])[]): string {
  const widths = rows[0].map((_, i) => Math.max(...rows.map((row) => row[i].length)));
  return rows.map((row) =>
    `  ${row.map((cell, i) => i === 0 ? cell.padEnd(widths[i]) : cell.padStart(widths[i])).join("  ")}`
  ).join("\n");
}

/** A number in a few digits. */
export const short = (x: number): string => Number.isFinite(x) ? String(Number(x.toPrecision(4))) : String(x);

/** The one line for an error, and its exit code. */
export function report(error: unknown, json: boolean): number {
  if (error instanceof DOMException && error.name === "AbortError") return 130;
  if (error instanceof AttuneError) {
    console.error(`error: ${error.message}`);
    if (json) console.log(JSON.stringify({ error: { code: error.code, message: error.message } }));
    return 1;
  }
  console.error(error);
  const message = error instanceof Error ? error.message : String(error);
  if (json) console.log(JSON.stringify({ error: { code: "internal", message } }));
  return 1;
}
