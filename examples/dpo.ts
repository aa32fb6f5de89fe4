/** Teaches a model your own preferences by DPO. Run: deno run -A examples/dpo.ts [MODEL FOLDER] */
import { createSession, gpuBackend, loadFolder, openGpu, preferenceData, requireTokenizer } from "../src/index.ts";
import { fileStore, openFolder } from "../src/storage/file.ts";

const pairs = ["river", "garden", "castle", "zoo"].map((place) => ({
  prompt: `Do you like the ${place}?`,
  chosen: `Yes, of course. I love the ${place} a lot.`,
  rejected: `I do not care.`,
}));

const path = Deno.args[0] ?? "models/attune-1m";
const out = await Deno.makeTempDir({ prefix: "attune-dpo-" });
const backend = gpuBackend(await openGpu());
const folder = await loadFolder(await openFolder(path));
const session = await createSession({
  // Metrics, checkpoints, the curves and the trained model come to lie in this folder.
  store: fileStore(`${out}/run`),
  backend,
  folder,
  data: preferenceData(requireTokenizer(folder, path), pairs),
  recipe: { algorithm: "dpo", config: { maxSteps: 4, perDeviceTrainBatchSize: 4, learningRate: 1e-4, beta: 0.1 } },
});
for await (const event of session.events) {
  if (event.type === "step") console.log(`step ${event.step}: margin ${event.metrics["rewards/margins"].toFixed(4)}`);
}
console.log(`The model is in ${out}/run/model.`);
