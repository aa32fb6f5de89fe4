/** What a command is. */
import type { OptionDefs, Options } from "./options.ts";
import type { Output } from "./output.ts";

export interface Command {
  readonly name: string;
  readonly description: string;
  readonly options: OptionDefs;
  /** The option that a first argument without dashes stands for. */
  readonly positional?: string;
  /** Does it; gives the exit code. @throws AttuneError */
  run(options: Options, output: Output): Promise<number>;
}
