/** --resume: a run is continued with the command line that started it, so that only changes must be given. */
import { AttuneError } from "../core/errors.ts";
import { readRecipe, RECIPE } from "../run/recipe.ts";
import { fileStore } from "../storage/file.ts";
import type { Command } from "./command.ts";
import { type Options, overlay, parseOptions, required } from "./options.ts";

/**
 * The options with those of the run in --out below them; unchanged without --resume.
 *
 * @throws AttuneError `run-missing`, `option-missing`, `recipe-differs` (another command's run)
 */
export async function resumed({ name, options: defs }: Command, options: Options): Promise<Options> {
  if (!options.flag("resume")) return options;
  const out = required(options, "out", "DIR, the run to resume");
  const bytes = await fileStore(out).read(RECIPE);
  if (bytes === undefined) {
    throw new AttuneError(
      "run-missing",
      `${out}: expected a run to resume, there is no ${RECIPE}; check the path, or start without --resume`,
    );
  }
  const { args: [command, ...args] = [name] } = readRecipe(bytes, `${out}/${RECIPE}`);
  if (command !== name) {
    throw new AttuneError(
      "recipe-differs",
      `${out}: the run was started by attune ${command}, got attune ${name}; resume it with that`,
    );
  }
  return overlay(parseOptions(args, defs), options);
}
