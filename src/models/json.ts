import { AttuneError } from "../core/errors.ts";

/** How to name a JSON document in errors, and how deep its objects and arrays may nest. */
export interface JsonSource {
  /** Code of the error for anything wrong with the text. */
  readonly code: string;
  /** The file, as a reader of the message knows it. */
  readonly name: string;
  readonly maxDepth: number;
}

/**
 * Parses a JSON object from a file that nobody vouches for.
 *
 * Stricter than `JSON.parse`: UTF-8 only, nesting is bounded before anything is built, no object may give a key twice
 * (parsers disagree on which one counts), and no key may be `__proto__`.
 *
 * @throws AttuneError `source.code`
 */
export function parseJsonObject(input: Uint8Array | string, source: JsonSource): Record<string, unknown> {
  const text = typeof input === "string" ? input : decodeUtf8(input, source);
  checkKeys(text, source);
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (cause) {
    throw problem(source, `not valid JSON (${(cause as Error).message})`, cause);
  }
  if (!isJsonObject(value)) throw problem(source, `expected a JSON object, got ${brief(value)}`);
  return value;
}

/** Decodes UTF-8 strictly: a byte-order mark stays, a malformed sequence is an error with `source.code`. */
export function decodeUtf8(bytes: Uint8Array, source: Pick<JsonSource, "code" | "name">): string {
  try {
    return new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch (cause) {
    throw problem(source, "not valid UTF-8 text", cause);
  }
}

export const isJsonObject = (value: unknown): value is Record<string, unknown> =>
  typeof value === "object" && value !== null && !Array.isArray(value);

/** A value as JSON, cut to a length that suits an error message. */
export function brief(value: unknown, maxLength = 80): string {
  const text = value === undefined ? "nothing" : JSON.stringify(value) ?? String(value);
  return text.length <= maxLength ? text : `${text.slice(0, maxLength)}… (${text.length} characters)`;
}

/** Walks the structure of `text`, valid or not, without building it. */
function checkKeys(text: string, source: JsonSource): void {
  const open: (Set<string> | undefined)[] = []; // the keys seen in each open object; undefined for an array
  for (let i = 0; i < text.length; i++) {
    const char = text[i];
    if (char === "{" || char === "[") {
      open.push(char === "{" ? new Set() : undefined);
      if (open.length > source.maxDepth) throw problem(source, `nested deeper than ${source.maxDepth} levels`);
    } else if (char === "}" || char === "]") {
      open.pop();
    } else if (char === '"') {
      const start = i;
      i = closingQuote(text, start);
      const keys = open[open.length - 1];
      if (keys !== undefined && isKey(text, i)) addKey(keys, text.slice(start, i + 1), source);
    }
  }
}

/** Index of the quote that ends the string opened at `start`, or the text's length when nothing does. */
function closingQuote(text: string, start: number): number {
  let i = start + 1;
  while (i < text.length && text[i] !== '"') i += text[i] === "\\" ? 2 : 1;
  return i;
}

function isKey(text: string, quote: number): boolean {
  let i = quote + 1;
  while (text[i] === " " || text[i] === "\n" || text[i] === "\r" || text[i] === "\t") i++;
  return text[i] === ":";
}

function addKey(keys: Set<string>, literal: string, source: JsonSource): void {
  let key: string;
  try {
    key = JSON.parse(literal);
  } catch (cause) {
    throw problem(source, `not valid JSON (key ${brief(literal)})`, cause);
  }
  if (keys.has(key)) throw problem(source, `key ${brief(key)} occurs twice in one object`);
  if (key === "__proto__") throw problem(source, 'key "__proto__" is not accepted');
  keys.add(key);
}

function problem(source: Pick<JsonSource, "code" | "name">, what: string, cause?: unknown): AttuneError {
  return new AttuneError(source.code, `${source.name}: ${what}; is the file complete and from a trusted tool?`, {
    cause,
  });
}
