/** Losses against the reference libraries' own functions: value, gradient and metrics, on the GPU. */
import { describe, expect, it } from "vitest";
import type { Tensor } from "../../src/core/shape.ts";
import { gradients } from "../../src/graph/grad.ts";
import { input, type Sym } from "../../src/graph/sym.ts";
import { gradOps } from "../../src/ops/index.ts";
import { bestOfNEstimate, bestOfNKlBound, bestOfNWinRateBound } from "../../src/rl/bestOfN.ts";
import { dftLoss, dpoLoss, policyGradientLoss, rewardLoss, sftLoss } from "../../src/rl/losses.ts";
import { sequenceSum } from "../../src/rl/masked.ts";
import { type KlHandling, remaxReturns } from "../../src/rl/remax.ts";
import { slice } from "../../src/ops/shape.ts";
import { testGpu } from "../support/backends.ts";
import { expectClose } from "../support/check-op.ts";
import { readText } from "../support/files.ts";

type Numbers = number | readonly Numbers[];
interface Case {
  readonly name: string;
  readonly config: Readonly<Record<string, unknown>>;
  readonly inputs: Readonly<Record<string, Numbers>>;
  readonly expected: Readonly<Record<string, Numbers>> & { readonly metrics?: Readonly<Record<string, number>> };
}

const cases = async (family: string): Promise<Case[]> =>
  JSON.parse(await readText(`test/golden/losses/${family}.json`)).cases;
const flat = (x: Numbers): number[] => typeof x === "number" ? [x] : x.flatMap(flat);
const shapeOf = (x: Numbers): number[] => typeof x === "number" ? [] : [x.length, ...shapeOf(x[0] ?? 0)];
const tensorOf = (x: Numbers): Tensor => ({ shape: shapeOf(x), data: Float32Array.from(flat(x)) });
const count = (mask: Numbers): number => flat(mask).reduce((a, b) => a + b, 0);

/** The golden README's bound for f32: 1e-5 · max(1, |expected|max), 5e-5 where extreme log-ratios go through exp. */
const tolerance = (name: string): number => name.includes("extreme") ? 5e-5 : 1e-5;

/** Computes outputs and the gradient of `loss` by `wrt` on the GPU. */
async function evaluate(
  values: Readonly<Record<string, Tensor>>,
  knobs: Readonly<Record<string, number>>,
  wrt: readonly string[],
  build: (x: Readonly<Record<string, Sym>>) => { loss: Sym } & Record<string, Sym>,
) {
  const scalars = Object.fromEntries(
    Object.entries(knobs).map(([k, v]): [string, Tensor] => [k, { shape: [], data: Float32Array.of(v) }]),
  );
  const all = { ...values, ...scalars };
  const syms = Object.fromEntries(Object.entries(all).map(([k, t]) => [k, input(k, t.shape)]));
  const outputs = build(syms);
  const grads = gradients(outputs.loss, wrt.map((k) => syms[k]), gradOps);
  const trace = {
    outputs: { ...outputs, ...Object.fromEntries(wrt.map((k, i) => [`grad_${k}`, grads[i]])) },
    effects: [],
  };
  return await (await (await testGpu()).compile("loss", trace)).run(all);
}

describe("sft", () => {
  it("nll and dft equal TRL's, alone and normalised over two micro-batches", async () => {
    for (const c of await cases("sft")) {
      if (c.inputs.micro_batches !== undefined) continue; // the sum of two of the others: tested below
      const mask = c.inputs.loss_mask;
      const rows = shapeOf(mask)[0];
      const normalizer = c.config.convention === "dpo-repo" ? rows : Number(c.config.num_items_in_batch ?? count(mask));
      const out = await evaluate({ logps: tensorOf(c.inputs.per_token_logps), mask: tensorOf(mask) }, { normalizer }, [
        "logps",
      ], ({ logps, mask, normalizer }) => ({
        loss: (c.config.loss_type === "dft" ? dftLoss : sftLoss)(logps, mask, normalizer),
      }));
      expectClose(out.loss, flat(c.expected.loss), tolerance(c.name), c.name);
      expectClose(out.grad_logps, flat(c.expected.grad_per_token_logps), tolerance(c.name), `${c.name} gradient`);
    }
  });

  it("micro-batches add up to the accumulated loss", async () => {
    const all = await cases("sft");
    for (const type of ["nll", "dft"]) {
      const parts = all.filter((c) => c.name.startsWith(`${type} num_items`)).map((c) => Number(c.expected.loss));
      const whole = all.find((c) => c.name.startsWith(`${type} accumulated`));
      expect(parts.reduce((a, b) => a + b)).toBeCloseTo(Number(whole?.expected.loss), 9);
    }
  });
});

describe("reward", () => {
  it("Bradley-Terry with margin and centring equals TRL's", async () => {
    for (const c of await cases("reward")) {
      const { rewards_chosen, rewards_rejected, margin } = c.inputs;
      const coefficient = c.config.center_rewards_coefficient;
      const values = {
        chosen: tensorOf(rewards_chosen),
        rejected: tensorOf(rewards_rejected),
        ...(margin !== undefined && { margin: tensorOf(margin) }),
      };
      const knobs: Record<string, number> = {
        normalizer: flat(rewards_chosen).length,
        ...(coefficient !== null && { center: Number(coefficient) }),
      };
      const out = await evaluate(
        values,
        knobs,
        ["chosen", "rejected"],
        ({ chosen, rejected, normalizer, margin, center }) => {
          const { loss, accuracy, margin: gap } = rewardLoss(chosen, rejected, normalizer, {
            ...(margin && { margin }),
            ...(center && { centerCoefficient: center }),
          });
          return { loss, accuracy, gap };
        },
      );
      expectClose(out.loss, flat(c.expected.loss), tolerance(c.name), c.name);
      expectClose(
        out.grad_chosen,
        flat(c.expected.grad_rewards_chosen),
        tolerance(c.name),
        `${c.name} gradient of chosen`,
      );
      expectClose(
        out.grad_rejected,
        flat(c.expected.grad_rewards_rejected),
        tolerance(c.name),
        `${c.name} gradient of rejected`,
      );
      const mean = (x: ArrayLike<number>): number => Array.from(x).reduce((a, b) => a + b, 0) / x.length;
      expect(mean(out.accuracy)).toBeCloseTo(c.expected.metrics?.accuracy ?? NaN, 6);
      expect(mean(out.gap)).toBeCloseTo(c.expected.metrics?.margin ?? NaN, 5);
    }
  });
});

describe("dpo", () => {
  // By hand, torchtune's numbers: π_w (−.5,−10,−1), π_l (−.1,−30,−21), ref_w (−.5,−10.1,−.1), ref_l (−.1,−20.1,−.1), β = .1:
  // u − v = (0, .1 − (−9.9), −.9 − (−20.9)) = (0, 10, 20), z = (0, 1, 2), −log σ(z) = (ln 2, ln(1+e^−1), ln(1+e^−2)).
  it("equals the numbers derived by hand", async () => {
    const t = (...x: number[]): Tensor => tensorOf(x);
    const values = { w: t(-0.5, -10, -1), l: t(-0.1, -30, -21), rw: t(-0.5, -10.1, -0.1), rl: t(-0.1, -20.1, -0.1) };
    const out = await evaluate(values, { beta: 0.1, normalizer: 3 }, ["w"], (x) => ({
      loss: dpoLoss({ chosen: x.w, rejected: x.l }, { chosen: x.rw, rejected: x.rl }, x.beta, x.normalizer).loss,
    }));
    expectClose(out.loss, [(Math.LN2 + Math.log1p(Math.exp(-1)) + Math.log1p(Math.exp(-2))) / 3], 1e-6, "loss");
    // d/dπ_w = −β σ(−z) / 3: raising the chosen log-probability lowers the loss.
    expectClose(out.grad_w, [0, 1, 2].map((z) => -0.1 / (1 + Math.exp(z)) / 3), 1e-6, "gradient");
  });

  it("sigmoid equals TRL's", async () => {
    const sigmoid = (await cases("dpo")).filter((c) =>
      JSON.stringify(c.config.loss_type) === '["sigmoid"]' && Object.keys(c.config).length === 2
    );
    expect(sigmoid.length).toBeGreaterThan(3);
    for (const c of sigmoid) {
      const { policy_per_token_logps: policy, ref_per_token_logps: reference, completion_mask: mask } = c.inputs;
      const B = shapeOf(mask)[0] / 2;
      const halves = (x: Sym): { chosen: Sym; rejected: Sym } => ({
        chosen: slice(x, 0, 0, B),
        rejected: slice(x, 0, B, 2 * B),
      });
      const out = await evaluate(
        { policy: tensorOf(policy), reference: tensorOf(reference), mask: tensorOf(mask) },
        { beta: Number(c.config.beta), normalizer: B },
        ["policy"],
        (x) => {
          const sums = halves(sequenceSum(x.policy, x.mask));
          const { loss, chosenRewards, rejectedRewards } = dpoLoss(
            sums,
            halves(sequenceSum(x.reference, x.mask)),
            x.beta,
            x.normalizer,
          );
          return { loss, chosenRewards, rejectedRewards, logps: sums.chosen };
        },
      );
      const mean = (x: ArrayLike<number>): number => Array.from(x).reduce((a, b) => a + b, 0) / x.length;
      const metrics = c.expected.metrics ?? {};
      expectClose(out.loss, flat(c.expected.loss), tolerance(c.name), c.name);
      expectClose(
        out.grad_policy,
        flat(c.expected.grad_policy_per_token_logps),
        tolerance(c.name),
        `${c.name} gradient`,
      );
      const pairs: [ArrayLike<number>, string][] = [[out.chosenRewards, "rewards/chosen"], [
        out.rejectedRewards,
        "rewards/rejected",
      ], [out.logps, "logps/chosen"]];
      for (const [got, key] of pairs) {
        expectClose(Float32Array.of(mean(got)), [metrics[key]], tolerance(c.name), `${c.name} ${key}`);
      }
    }
  });
});

describe("remax", () => {
  const handling: Readonly<Record<string, KlHandling>> = {
    one_step: "oneStep",
    cumulative: "cumulative",
    none: "none",
  };

  it("returns, loss and gradient equal the repository's, verl's and the paper's", async () => {
    for (const c of await cases("remax")) {
      const mask = flat(c.inputs.completion_mask);
      const zeros = mask.map(() => 0);
      const klHandling = handling[String(c.config.kl_handling)];
      const returns = remaxReturns({
        logps: c.inputs.old_per_token_logps === undefined ? zeros : flat(c.inputs.old_per_token_logps),
        refLogps: c.inputs.ref_per_token_logps === undefined ? zeros : flat(c.inputs.ref_per_token_logps),
        mask,
        rewards: flat(c.inputs.rewards),
        baselineRewards: flat(c.inputs.baseline_rewards),
      }, {
        klHandling,
        klCoef: Number(c.config.kl_ctl ?? 0),
        gamma: Number(c.config.gamma ?? 1),
        clipRewardValue: Number(c.config.clip_reward_value ?? Infinity),
      });
      const wanted = c.expected.advantages ?? c.expected.returns;
      if (wanted !== undefined) {
        const masked = flat(wanted).map((g, i) => g * mask[i]);
        expectClose(returns, masked, tolerance(c.name), `${c.name} returns`);
      }
      const shape = shapeOf(c.inputs.completion_mask);
      const normalizer = klHandling === "none" ? shape[0] : count(c.inputs.completion_mask);
      const out = await evaluate(
        {
          logps: tensorOf(c.inputs.policy_per_token_logps),
          mask: tensorOf(c.inputs.completion_mask),
          returns: { shape, data: returns },
        },
        { normalizer },
        ["logps"],
        (x) => ({ loss: policyGradientLoss(x.logps, x.returns, x.mask, x.normalizer) }),
      );
      expectClose(out.loss, flat(c.expected.loss ?? c.expected.loss_re_expressed), tolerance(c.name), c.name);
      expectClose(
        out.grad_logps,
        flat(c.expected.grad_policy_per_token_logps),
        tolerance(c.name),
        `${c.name} gradient`,
      );
    }
  });
});

describe("best-of-n", () => {
  it("estimator and bounds equal the goldens", async () => {
    for (const c of await cases("best_of_n")) {
      const { kl_bound, win_rate_bound, best_of_n_reward, best_of_n_gold } = c.expected;
      if (kl_bound !== undefined) {
        const ns = flat(c.inputs.n);
        expectClose(Float32Array.from(ns, bestOfNKlBound), flat(kl_bound), 1e-6, c.name);
        expectClose(Float32Array.from(ns, bestOfNWinRateBound), flat(win_rate_bound), 1e-6, c.name);
        continue;
      }
      const [rewards, gold] = [flat(c.inputs.rewards), flat(c.inputs.gold)];
      flat(c.config.n as Numbers).forEach((n, i) => {
        expect(bestOfNEstimate(rewards, rewards, n)).toBeCloseTo(flat(best_of_n_reward)[i], 12);
        expect(bestOfNEstimate(rewards, gold, n)).toBeCloseTo(flat(best_of_n_gold)[i], 12);
      });
    }
  });
});
