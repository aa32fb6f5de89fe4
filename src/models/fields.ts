import { AttuneError } from "../core/errors.ts";
import { brief, isJsonObject } from "./json.ts";

/** When a required value may be missing or need not hold. */
export interface Leniency {
  /** The field may be absent or null. */
  readonly absent?: boolean;
  /** Another field makes this one irrelevant. */
  readonly unless?: boolean;
}

/**
 * Typed reads of an object's fields. null counts as absent, as Python writes None. Each read throws an AttuneError
 * that names the field: `config-invalid` for a missing one, a wrong type or a number out of bounds,
 * `config-unsupported` for a value that is understood but not implemented.
 */
export interface Fields {
  readonly keys: readonly string[];
  get(key: string): unknown;
  has(key: string, value?: unknown): boolean;
  integer(key: string, min: number, max: number): number;
  optionalInteger(key: string, min: number, max: number): number | undefined;
  /** One integer or a list of them, as a list. */
  integerOrList(key: string, min: number, max: number): number[] | undefined;
  /** A finite number above `low` and at most `high`. */
  number(key: string, low: number, high: number): number;
  optionalNumber(key: string, low: number, high: number): number | undefined;
  optionalBoolean(key: string): boolean | undefined;
  optionalStrings(key: string): string[] | undefined;
  optionalObject(key: string): Record<string, unknown> | undefined;
  optionalFields(key: string): Fields | undefined;
  choice<T extends string>(key: string, supported: readonly T[]): T;
  require(key: string, supported: unknown, leniency?: Leniency): void;
  invalid(key: string, value: unknown, expected: string): AttuneError;
  unsupported(key: string, value: unknown, supported: string): AttuneError;
}

/** `file` and `path` name the object in errors; `path` ends in a dot unless it is empty. */
export function openFields(object: Record<string, unknown>, file: string, path = ""): Fields {
  // Own properties only: a field named like a method of Object must not be found on its prototype.
  const get = (key: string): unknown => Object.hasOwn(object, key) ? object[key] ?? undefined : undefined;
  const invalid = (key: string, value: unknown, expected: string): AttuneError => {
    const what = `${path}${key} is ${value === undefined ? "missing" : brief(value)}`;
    return new AttuneError("config-invalid", `${file}: ${what}, expected ${expected}; correct the file`);
  };
  const unsupported = (key: string, value: unknown, supported: string): AttuneError => {
    const what = `${path}${key} ${brief(value)} is not supported, only ${supported}`;
    return new AttuneError("config-unsupported", `${file}: ${what}; choose a model without it`);
  };

  /** A read that passes absent fields on as undefined. */
  const optional = <T>(key: string, expected: string, accepts: (value: unknown) => value is T): T | undefined => {
    const value = get(key);
    if (value === undefined || accepts(value)) return value;
    throw invalid(key, value, expected);
  };
  const present = <T>(key: string, value: T | undefined, expected: string): T => {
    if (value === undefined) throw invalid(key, undefined, expected);
    return value;
  };

  const optionalInteger = (key: string, min: number, max: number) => optional(key, ...integers(min, max));
  const optionalNumber = (key: string, low: number, high: number) => optional(key, ...numbers(low, high));
  return {
    keys: Object.keys(object),
    get,
    has: (key, value) => value === undefined ? get(key) !== undefined : get(key) === value,
    integer: (key, min, max) => present(key, optionalInteger(key, min, max), integers(min, max)[0]),
    optionalInteger,
    integerOrList(key, min, max) {
      const [expected, accepts] = integers(min, max);
      const value = get(key);
      const list = value === undefined || Array.isArray(value) ? value : [value];
      if (list === undefined || list.every(accepts)) return list;
      throw invalid(key, value, `${expected}, or a list of such`);
    },
    number: (key, low, high) => present(key, optionalNumber(key, low, high), numbers(low, high)[0]),
    optionalNumber,
    optionalBoolean: (key) => optional(key, "true or false", (value) => typeof value === "boolean"),
    optionalStrings: (key) => optional(key, "a list of strings", isStrings),
    optionalObject: (key) => optional(key, "an object", isJsonObject),
    optionalFields(key) {
      const inner = optional(key, "an object", isJsonObject);
      return inner === undefined ? undefined : openFields(inner, file, `${path}${key}.`);
    },
    choice<T extends string>(key: string, supported: readonly T[]): T {
      const expected = supported.join(" or ");
      const value = present(key, get(key), expected);
      if (typeof value !== "string") throw invalid(key, value, expected);
      const found = supported.find((name) => name === value);
      if (found === undefined) throw unsupported(key, value, expected);
      return found;
    },
    require(key, supported, { absent = false, unless = false } = {}) {
      const value = get(key);
      if (unless || value === supported || (absent && value === undefined)) return;
      throw unsupported(key, value, supported === null ? "null" : brief(supported));
    },
    invalid,
    unsupported,
  };
}

type Check<T> = readonly [expected: string, accepts: (value: unknown) => value is T];

const integers = (min: number, max: number): Check<number> => [
  `an integer from ${min} to ${max}`,
  (value): value is number => Number.isSafeInteger(value) && Number(value) >= min && Number(value) <= max,
];

const numbers = (low: number, high: number): Check<number> => [
  `a number above ${low} and at most ${high}`,
  (value): value is number => typeof value === "number" && value > low && value <= high,
];

const isStrings = (value: unknown): value is string[] =>
  Array.isArray(value) && value.every((item) => typeof item === "string");
