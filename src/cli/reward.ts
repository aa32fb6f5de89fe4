import { algorithms } from "../run/algorithms.ts";
import { preferenceData, requireTokenizer } from "../run/data.ts";
import { withScoreHead } from "../run/reward.ts";
import { bundledPairs } from "../data/tasks/bundled.ts";
import { BUNDLED_CONFIG } from "../run/bundled.ts";
import type { Command } from "./command.ts";
import { openBackend, openModel, readRows } from "./inputs.ts";
import { COMMON, configFrom, fieldOptions, MODEL, TRAINING } from "./options.ts";
import { train } from "./train.ts";

const { fields, defaults, config: checkConfig } = algorithms.reward;

export const rewardCommand: Command = {
  name: "reward",
  description: "Train a reward model on preference pairs.",
  options: {
    data: {
      type: "string",
      description: 'rows {"prompt", "chosen", "rejected"} (default: the bundled task)',
      valueHint: "FILE.jsonl",
    },
    ...MODEL,
    ...TRAINING,
    ...fieldOptions(fields, defaults),
    ...COMMON,
  },
  async run(options, output) {
    const file = options.text("data");
    const config = { ...(file === undefined ? BUNDLED_CONFIG.reward : {}), ...configFrom(options, fields) };
    const { seed } = checkConfig(config);
    const rows = file === undefined ? bundledPairs() : await readRows(file, ["preference"]);
    const { folder: opened, source } = await openModel(options.text("model"));
    const folder = opened.config.head === "score" ? opened : withScoreHead(opened, seed);
    const data = preferenceData(requireTokenizer(folder, source), rows);
    const backend = await openBackend();
    return await train(
      {
        command: "reward",
        name: "reward",
        algorithm: "reward",
        config,
        backend,
        folder,
        model: { source },
        data,
        dataSource: { source: file ?? "bundled preferences" },
      },
      options,
      output,
    );
  },
};
