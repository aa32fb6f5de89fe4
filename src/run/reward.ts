/** Rewards from a trained reward model. */
import { createRewardScorer } from "../algorithms/rewardModel.ts";
import { AttuneError } from "../core/errors.ts";
import { Rng } from "../core/rng.ts";
import { encodeRow } from "../data/format.ts";
import type { ModelFolder } from "../models/folder.ts";
import { createModel } from "../models/model.ts";
import type { Backend } from "../plan/backend.ts";
import type { Reward } from "../rl/reward.ts";
import { requireTokenizer } from "./data.ts";

/**
 * The scores of a model with a score head, read at the end-of-text token. Texts longer than its context lose their end.
 *
 * @throws AttuneError `reward-head`, `tokenizer-missing`
 */
export function modelReward(backend: Backend, folder: ModelFolder, name = "reward model"): Reward {
  if (folder.config.head !== "score") {
    throw new AttuneError(
      "reward-head",
      `${name}: expected a reward model, whose config.json names a …ForSequenceClassification; got a language model`,
    );
  }
  const tokenizer = requireTokenizer(folder, name);
  const { vocabSize, maxPositions: maxLength } = folder.config;
  const score = createRewardScorer(backend, createModel(backend, folder.config, folder.tensors, "reward"));
  return (prompts, completions) => {
    const texts = prompts.map((prompt, i) => {
      const { promptIds, completionIds } = encodeRow(tokenizer, prompt, completions[i]);
      return [...promptIds, ...completionIds].slice(0, maxLength);
    });
    return score(texts, { vocabSize, padTokenId: tokenizer.padTokenId, maxLength });
  };
}

/** A language model with a score head in place of its token head, the head's weights drawn from N(0, 1 / (C + 1)). */
export function withScoreHead(folder: ModelFolder, seed: number): ModelFolder {
  const { hiddenSize: C } = folder.config;
  const tensors = new Map(folder.tensors);
  tensors.delete("lm_head.weight");
  const rng = new Rng(seed);
  tensors.set("score.weight", {
    shape: [1, C],
    data: Float32Array.from({ length: C }, () => rng.normal() / Math.sqrt(C + 1)),
  });
  return { ...folder, config: { ...folder.config, head: "score" }, tensors };
}
