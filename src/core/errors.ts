/**
 * The one error class of the library.
 *
 * A message says what was expected, what came and what to do. `code` is stable and meant for programs; codes that start
 * with `internal` are bugs of ours.
 */
export class AttuneError extends Error {
  override readonly name = "AttuneError";
  readonly code: string;

  constructor(code: string, message: string, options?: ErrorOptions) {
    super(message, options);
    this.code = code;
  }
}

/** Throws an `internal` error when something that the code guarantees does not hold. */
export function assert(condition: unknown, message: string): asserts condition {
  if (!condition) throw new AttuneError("internal", `internal: ${message}; please report this`);
}

/** The known name closest to `name` (Levenshtein distance at most half its length), for "did you mean" hints. */
export function nearest(name: string, known: Iterable<string>): string | undefined {
  let best: string | undefined;
  let bestDistance = Math.max(1, Math.floor(name.length / 2)) + 1;
  for (const candidate of known) {
    const distance = editDistance(name.toLowerCase(), candidate.toLowerCase());
    if (distance < bestDistance) [best, bestDistance] = [candidate, distance];
  }
  return best;
}

/** `unknown X "foo"; did you mean "food"? Known: …` as an {@link AttuneError}. */
export function unknownName(what: string, name: string, known: Iterable<string>): AttuneError {
  const names = [...known];
  const hint = nearest(name, names);
  const mean = hint === undefined ? "" : ` did you mean "${hint}"?`;
  return new AttuneError(
    `unknown-${what.replaceAll(" ", "-")}`,
    `unknown ${what} "${name}";${mean} known: ${names.join(", ")}`,
  );
}

function editDistance(a: string, b: string): number {
  let row = Array.from({ length: b.length + 1 }, (_, j) => j);
  for (let i = 1; i <= a.length; i++) {
    const next = [i];
    for (let j = 1; j <= b.length; j++) {
      next[j] = Math.min(row[j] + 1, next[j - 1] + 1, row[j - 1] + (a[i - 1] === b[j - 1] ? 0 : 1));
    }
    row = next;
  }
  return row[b.length];
}
