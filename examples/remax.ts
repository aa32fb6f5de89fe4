/** Aligns a model with a reward of one line. Run: deno run -A examples/remax.ts [MODEL FOLDER] */
import { createSession, gpuBackend, loadFolder, openGpu, promptData, type Reward } from "../src/index.ts";
import { openFolder } from "../src/storage/file.ts";

const backend = gpuBackend(await openGpu());
const folder = await loadFolder(await openFolder(Deno.args[0] ?? "models/attune-1m"));
const data = promptData(
  ["river", "garden", "castle", "zoo"].map((place) => ({ prompt: `Tell me about the ${place}.` })),
);
const reward: Reward = (_prompts, completions) => completions.map((text) => text.split(" ").length / 20);
const config = { maxSteps: 3, perDeviceTrainBatchSize: 4, maxCompletionLength: 24, learningRate: 1e-4 };
const session = await createSession({ backend, folder, data, reward, recipe: { algorithm: "remax", config } });
for await (const event of session.events) {
  if (event.type === "step") console.log(`step ${event.step}: reward ${event.metrics.reward.toFixed(3)}`);
}
console.log(await session.generate(["How was the lake?"], { maxNewTokens: 24 }));
