/** Reads JSON Lines, one row a line, checking each row against the kinds that the caller can use. */
import { AttuneError } from "../core/errors.ts";
import { type ByteSource, emptyFile, readLines } from "./lines.ts";
import type { RowTypes } from "./rows.ts";

export type RowKind = keyof RowTypes;

/** Reads one field of a row, or throws an error that names it. */
interface Fields {
  string(name: string): string;
  ids(name: string): number[];
}

/** For each kind: the fields that a row of it must have, and the row made of them. Other fields are ignored. */
const rowKinds: { readonly [K in RowKind]: { names: readonly string[]; build(fields: Fields): RowTypes[K] } } = {
  text: { names: ["text"], build: (f) => ({ text: f.string("text") }) },
  prompt: { names: ["prompt"], build: (f) => ({ prompt: f.string("prompt") }) },
  completion: {
    names: ["prompt", "completion"],
    build: (f) => ({ prompt: f.string("prompt"), completion: f.string("completion") }),
  },
  preference: {
    names: ["prompt", "chosen", "rejected"],
    build: (f) => ({ prompt: f.string("prompt"), chosen: f.string("chosen"), rejected: f.string("rejected") }),
  },
  tokens: {
    names: ["prompt_ids", "completion_ids"],
    build: (f) => ({ promptIds: f.ids("prompt_ids"), completionIds: f.ids("completion_ids") }),
  },
};

/**
 * The rows of a JSON Lines file, as they are read. A row is of the first of `kinds` whose fields it has; blank lines are
 * skipped.
 *
 * @param name the file's name in errors
 * @throws AttuneError with file name and line number: `data-not-utf8`, `data-line-too-long`, `data-not-json`,
 *   `data-not-object`, `data-field` (missing or of the wrong type), `data-empty`
 */
export async function* readJsonl<K extends RowKind>(
  source: ByteSource,
  name: string,
  kinds: readonly K[],
): AsyncGenerator<RowTypes[K]> {
  let count = 0;
  for await (const { text, number } of readLines(source, name)) {
    if (text.trim() === "") continue;
    const at = `${name}:${number}`;
    const row = parseObject(text, at, kinds);
    const kind = kinds.find((k) => missing(row, k).length === 0);
    if (kind === undefined) throw missingField(row, at, kinds);
    yield rowKinds[kind].build(fieldsOf(row, at, kind));
    count++;
  }
  if (count === 0) throw emptyFile(name, `rows ${showKinds(kinds)}`);
}

function parseObject(text: string, at: string, kinds: readonly RowKind[]): Record<string, unknown> {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (cause) {
    const reason = cause instanceof Error ? cause.message : String(cause);
    throw new AttuneError("data-not-json", `${at}: expected one JSON object a line; ${reason}`, { cause });
  }
  if (isObject(value)) return value;
  throw new AttuneError("data-not-object", `${at}: expected an object ${showKinds(kinds)}; got ${describe(value)}`);
}

const missing = (row: Record<string, unknown>, kind: RowKind): string[] =>
  rowKinds[kind].names.filter((field) => !Object.hasOwn(row, field));

function missingField(row: Record<string, unknown>, at: string, kinds: readonly RowKind[]): AttuneError {
  const fewest = kinds.map((kind) => missing(row, kind)).reduce((a, b) => b.length < a.length ? b : a);
  const found = Object.keys(row).slice(0, 8).map((key) => JSON.stringify(key)).join(", ");
  return new AttuneError(
    "data-field",
    `${at}: field "${fewest[0]}" is missing; expected ${showKinds(kinds)}, got the fields ${found || "none"}`,
  );
}

function fieldsOf(row: Record<string, unknown>, at: string, kind: RowKind): Fields {
  const wrong = (field: string, expected: string) =>
    new AttuneError(
      "data-field",
      `${at}: field "${field}" of a row ${showKinds([kind])} should be ${expected}; got ${describe(row[field])}`,
    );
  return {
    string(field) {
      const value = row[field];
      if (typeof value !== "string") throw wrong(field, "a string");
      return value;
    },
    ids(field) {
      const value = row[field];
      if (!Array.isArray(value) || !value.every(isTokenId)) {
        throw wrong(field, "an array of token ids (whole numbers from 0)");
      }
      return value;
    },
  };
}

const showKinds = (kinds: readonly RowKind[]): string =>
  kinds.map((kind) => `{${rowKinds[kind].names.join(", ")}}`).join(" or ");

function describe(value: unknown): string {
  const text = JSON.stringify(value);
  return text.length > 60 ? `${text.slice(0, 60)}…` : text;
}

const isTokenId = (value: unknown): value is number =>
  typeof value === "number" && Number.isInteger(value) && value >= 0 && value < 2 ** 32;

const isObject = (value: unknown): value is Record<string, unknown> =>
  typeof value === "object" && value !== null && !Array.isArray(value);
