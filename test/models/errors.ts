import { AttuneError } from "../../src/core/errors.ts";

/** The AttuneError that `action` ends in; anything else fails the test. */
export async function errorOf(action: () => unknown): Promise<AttuneError> {
  let outcome: unknown;
  try {
    outcome = await action();
  } catch (error) {
    if (error instanceof AttuneError) return error;
    outcome = error;
  }
  throw new Error(`expected an AttuneError, got ${String(outcome)}`);
}
