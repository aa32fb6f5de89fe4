/** The decoder against transformers: logits, log-probabilities, gradients, AdamW trajectories and greedy text. */
import { describe, expect, it } from "vitest";
import { parameterSet, scopeOf } from "../../src/graph/parameters.ts";
import { gradients } from "../../src/graph/grad.ts";
import { createGenerator } from "../../src/generate/generate.ts";
import { GREEDY } from "../../src/generate/sampling.ts";
import { decoder } from "../../src/models/decoder.ts";
import { createModel, type Model } from "../../src/models/model.ts";
import { gradOps } from "../../src/ops/index.ts";
import { adamw } from "../../src/optim/adamw.ts";
import { compileStep } from "../../src/optim/step.ts";
import { program } from "../../src/plan/program.ts";
import { sftLoss } from "../../src/rl/losses.ts";
import { testGpu } from "../support/backends.ts";
import { expectClose } from "../support/check-op.ts";
import { type GoldenModel, goldenModel } from "../support/goldens.ts";

/** The golden batch: inputs [B, T], targets shifted left, a mask over real targets. */
function goldenBatch(golden: GoldenModel) {
  const ids = golden.tensor("input_ids");
  const attended = golden.tensor("attention_mask");
  const [B, T] = ids.shape;
  const targets = new Uint32Array(B * T);
  const mask = new Float32Array(B * T);
  for (let b = 0; b < B; b++) {
    for (let t = 0; t + 1 < T; t++) {
      targets[b * T + t] = ids.data[b * T + t + 1];
      mask[b * T + t] = attended.data[b * T + t + 1];
    }
  }
  const shape = [B, T];
  return { tokens: ids, targets: { shape, data: targets }, mask: { shape, data: mask } };
}

for (const name of ["gpt2", "llama-gqa"]) {
  describe(name, () => {
    it("gives transformers' logits, log-probabilities, entropies and loss", async () => {
      const golden = await goldenModel(name);
      const gpu = await testGpu();
      const model = createModel(gpu, golden.folder.config, golden.folder.tensors, name);
      const batch = goldenBatch(golden);
      const forward = program(gpu, name, ({ tokens, targets, mask, normalizer }) => {
        const net = model.net(scopeOf(model.parameters));
        const { logp, entropy } = net.tokenStats(tokens, targets);
        return {
          outputs: { logits: net.logits(net.hidden(tokens)), logp, entropy, loss: sftLoss(logp, mask, normalizer) },
          effects: [],
        };
      });
      const out = await forward.run({ ...batch, normalizer: batch.mask.data.reduce((a, b) => a + b, 0) });
      const [B, T] = batch.tokens.shape;
      const V = golden.folder.config.vocabSize;
      const attended = golden.tensor("attention_mask").data;
      const [logits, entropy, logps] = ["logits", "entropy", "per_token_logps"].map((key) => golden.tensor(key).data);
      for (let b = 0; b < B; b++) {
        for (let t = 0; t < T; t++) {
          const i = b * T + t;
          if (attended[i] === 0) continue; // values at padding are of no consequence
          expectClose(
            out.logits.subarray(i * V, (i + 1) * V),
            logits.subarray(i * V, (i + 1) * V),
            1e-4,
            `logits ${b},${t}`,
          );
          expect(Math.abs(out.entropy[i] - entropy[i])).toBeLessThanOrEqual(1e-4);
          if (batch.mask.data[i] === 1) {
            expect(Math.abs(out.logp[i] - logps[b * (T - 1) + t])).toBeLessThanOrEqual(1e-4);
          }
        }
      }
      expect(Math.abs(out.loss[0] - golden.tensor("loss").data[0])).toBeLessThanOrEqual(2e-5);
    });

    for (const checkpointing of [false, true]) {
      it(`gives torch's gradient of every parameter${checkpointing ? ", blocks recomputed" : ""}`, async () => {
        const golden = await goldenModel(name);
        const gpu = await testGpu();
        const model = createModel(gpu, golden.folder.config, golden.folder.tensors, name);
        const batch = goldenBatch(golden);
        const backward = program(gpu, name, ({ tokens, targets, mask, normalizer }) => {
          const scope = scopeOf(model.parameters);
          const { logp } = model.net(scope).tokenStats(tokens, targets, { checkpointing });
          const grads = gradients(sftLoss(logp, mask, normalizer), scope.all(), gradOps);
          return { outputs: Object.fromEntries(model.parameters.specs.map((s, i) => [s.name, grads[i]])), effects: [] };
        });
        const out = await backward.run({ ...batch, normalizer: batch.mask.data.reduce((a, b) => a + b, 0) });
        for (const { name: parameter } of model.parameters.specs) {
          const want = golden.tensor(`grad.${parameter}`).data;
          // The golden README's bound: 2e-5 + 1e-4 · |g|max.
          const bound = 2e-5 + 1e-4 * Math.max(...Array.from(want, Math.abs));
          const worst = Math.max(...Array.from(want, (w, i) => Math.abs(out[parameter][i] - w)));
          expect(worst, parameter).toBeLessThanOrEqual(bound);
        }
      });
    }

    it("follows torch's AdamW for ten steps, with and without clipping, decay and warmup", async () => {
      const golden = await goldenModel(name);
      const gpu = await testGpu();
      for (const run of golden.expected.adamw) {
        const everything = !run.name.includes("warmup"); // the first run decays all parameters
        const base = createModel(gpu, golden.folder.config, golden.folder.tensors, "unused");
        const parameters = parameterSet(
          `policy ${run.name}`,
          base.parameters.specs.map((s) => ({ ...s, decay: everything || s.decay })),
        );
        for (const [key, view] of parameters.views) {
          gpu.upload(view, golden.folder.tensors.get(key)?.data ?? new Float32Array());
        }
        const model: Model = { ...base, parameters, net: (scope) => decoder(golden.folder.config, scope) };
        const { betas, eps, weight_decay: weightDecay, max_grad_norm } = run.optimizer;
        const step = compileStep(gpu, run.name, model, adamw({ betas, eps, weightDecay }), (net, b) => ({
          loss: sftLoss(net.tokenStats(b.tokens, b.targets).logp, b.mask, b.normalizer),
        }));
        const batch = goldenBatch(golden);
        const normalizer = batch.mask.data.reduce((a, b) => a + b, 0);
        for (let t = 0; t < run.steps; t++) {
          const result = await step(batch, {
            learningRate: run.learning_rates[t],
            maxGradNorm: max_grad_norm ?? 0,
            normalizer,
          });
          expect(Math.abs(result.loss - run.losses[t]), `${run.name}: loss ${t}`).toBeLessThanOrEqual(1e-4);
          // Norms sum thousands of squares in f32: 1e-4 of their size.
          expect(Math.abs(result.gradNorm - run.grad_norms[t]), `${run.name}: norm ${t}`).toBeLessThanOrEqual(
            1e-4 * run.grad_norms[t] + 1e-4,
          );
        }
      }
    });

    it("writes transformers' greedy text", async () => {
      const golden = await goldenModel(name);
      const gpu = await testGpu();
      const model = createModel(gpu, golden.folder.config, golden.folder.tensors, name);
      const generator = createGenerator(gpu, model);
      const cases = golden.expected.greedy;
      const { max_new_tokens: maxNewTokens } = cases[0];
      const out = await generator.generate(cases.map((c) => c.prompt_ids), {
        maxNewTokens,
        seed: 1,
        sampling: GREEDY,
        eosTokenIds: [],
      });
      cases.forEach((c, i) => {
        expect(out[i].tokens).toEqual(c.generated_ids);
        expectClose(Float32Array.from(out[i].logps), c.logps, 1e-4, `log-probabilities ${i}`);
      });
      generator.close();
    });
  });
}
