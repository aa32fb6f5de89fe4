/** Recipes in the page's address: #algorithm=remax&maxSteps=60&… */
import { AttuneError, unknownName } from "../src/core/errors.ts";
import { type Choice, choices, isChoice, offers } from "./algorithms.ts";

export interface PageRecipe {
  readonly algorithm: Choice;
  /** Numbers by setting. */
  readonly values: Readonly<Record<string, number>>;
  /** Addresses of other models than the bundled ones. */
  readonly model?: string | undefined;
  readonly rewardModel?: string | undefined;
}

export const defaultRecipe = (algorithm: Choice): PageRecipe => ({
  algorithm,
  values: Object.fromEntries(Object.entries(offers[algorithm].settings).map(([name, { value }]) => [name, value])),
});

export function toHash({ algorithm, values, model, rewardModel }: PageRecipe): string {
  const known = Object.keys(offers[algorithm].settings).map((name) => [name, String(values[name])]);
  const addresses = Object.entries({ model, rewardModel }).filter((entry): entry is [string, string] =>
    entry[1] !== undefined
  );
  return "#" + new URLSearchParams([["algorithm", algorithm], ...known, ...addresses]);
}

/**
 * Reads an address. What it leaves out gets its default.
 *
 * @throws AttuneError `unknown-algorithm`, `unknown-setting`, `setting-invalid`
 */
export function fromHash(hash: string): PageRecipe {
  const given = new URLSearchParams(hash.replace(/^#/, ""));
  const algorithm = given.get("algorithm") ?? choices[0];
  if (!isChoice(algorithm)) throw unknownName("algorithm", algorithm, choices);
  const { settings } = offers[algorithm];
  const values: Record<string, number> = { ...defaultRecipe(algorithm).values };
  for (const [name, text] of given) {
    if (["algorithm", "model", "rewardModel"].includes(name)) continue;
    const setting = settings[name];
    if (setting === undefined) throw unknownName("setting", name, Object.keys(settings));
    const { min, max, whole } = setting;
    const value = Number(text);
    if (text.trim() === "" || !(value >= min && value <= max) || (whole && !Number.isInteger(value))) {
      const kind = whole ? "a whole number" : "a number";
      throw new AttuneError(
        "setting-invalid",
        `${name} in the address: expected ${kind} from ${min} to ${max}, got ${JSON.stringify(text)}; correct it`,
      );
    }
    values[name] = value;
  }
  return {
    algorithm,
    values,
    model: given.get("model") ?? undefined,
    rewardModel: given.get("rewardModel") ?? undefined,
  };
}
