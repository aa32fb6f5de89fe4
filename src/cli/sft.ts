import { algorithms } from "../run/algorithms.ts";
import { completionData, requireTokenizer } from "../run/data.ts";
import { bundledExchanges } from "../data/tasks/bundled.ts";
import { BUNDLED_CONFIG } from "../run/bundled.ts";
import type { Command } from "./command.ts";
import { openBackend, openModel, readRows } from "./inputs.ts";
import { COMMON, configFrom, fieldOptions, MODEL, required, TRAINING } from "./options.ts";
import { train } from "./train.ts";

const { fields, defaults } = algorithms.sft;

export const sftCommand: Command = {
  name: "sft",
  description: "Fine-tune a model on prompts with completions, or on texts.",
  options: {
    data: {
      type: "string",
      description: 'rows {"prompt", "completion"} or {"text"}, or "world" for the synthetic world',
      valueHint: "FILE.jsonl",
    },
    ...MODEL,
    ...TRAINING,
    ...fieldOptions(fields, defaults),
    ...COMMON,
  },
  async run(options, output) {
    const source = required(options, "data", "FILE.jsonl, or --data world");
    const world = source === "world";
    const config = { ...(world ? BUNDLED_CONFIG.sft : {}), ...configFrom(options, fields) };
    const rows = world ? bundledExchanges() : await readRows(source, ["completion", "text"]);
    const { folder, source: model } = await openModel(options.text("model"));
    const data = completionData(requireTokenizer(folder, model), rows, folder.config.maxPositions);
    const backend = await openBackend();
    return await train(
      {
        command: "sft",
        name: "sft",
        algorithm: "sft",
        config,
        backend,
        folder,
        model: { source: model },
        data,
        dataSource: { source },
      },
      options,
      output,
    );
  },
};
