/** The algorithms that the page offers: their settings, their curves and their words. */

import { BUNDLED_CONFIG } from "../src/run/bundled.ts";

export type Choice = "remax" | "dpo" | "best-of-n";

/** A setting that people may change. */
export interface Setting {
  readonly label: string;
  readonly min: number;
  readonly max: number;
  readonly whole: boolean;
  readonly value: number;
}

/** A chart: the metric it draws and how it is called. */
export interface Curve {
  readonly metric: string;
  readonly title: string;
}

export interface Offer {
  readonly title: string;
  readonly summary: string;
  readonly settings: Readonly<Record<string, Setting>>;
  /** Settings that the page does not show. */
  readonly fixed: Readonly<Record<string, unknown>>;
  readonly curves: readonly Curve[];
  /** The curves' x axis: what it counts, from where, and the setting that says how far. */
  readonly x: { readonly label: string; readonly from: number; readonly setting: string };
  /** What the progress counts. */
  readonly unit: string;
  readonly columns: readonly string[];
  /** What the table shows. */
  readonly hint: string;
}

const whole = (label: string, value: number, max: number, min = 1): Setting => ({
  label,
  value,
  min,
  max,
  whole: true,
});
const real = (label: string, value: number, max: number): Setting => ({ label, value, min: 0, max, whole: false });

const seed = whole("Seed", 42, 2 ** 32 - 1, 0);

// A page may be closed at any time: what is lost then is what came after the last checkpoint.
const SAVE_STEPS = 5;

const { remax, dpo, "best-of-n": bestOfN } = BUNDLED_CONFIG;

const WATCHED =
  "The same unseen prompts before training and now, with the same random numbers; the reward is the reward model's.";

export const offers: Readonly<Record<Choice, Offer>> = {
  remax: {
    title: "ReMax",
    summary: "Writes replies, has them scored, and learns from what beats its own best guess.",
    settings: {
      maxSteps: whole("Steps", remax.maxSteps, 100_000),
      learningRate: real("Learning rate", remax.learningRate, 1),
      klCoef: real("KL coefficient", remax.klCoef, 100),
      seed,
    },
    fixed: { ...remax, saveSteps: SAVE_STEPS },
    curves: [{ metric: "reward", title: "Reward" }, { metric: "objective/kl", title: "KL to the start, nats" }],
    x: { label: "step", from: 0, setting: "maxSteps" },
    unit: "step",
    columns: ["Prompt", "Before", "Now", "Reward"],
    hint: WATCHED,
  },
  dpo: {
    title: "DPO",
    summary: "Learns from pairs of replies of which people preferred one.",
    settings: {
      maxSteps: whole("Steps", dpo.maxSteps, 100_000),
      learningRate: real("Learning rate", dpo.learningRate, 1),
      beta: real("β", dpo.beta, 100),
      seed,
    },
    fixed: { ...dpo, saveSteps: SAVE_STEPS },
    curves: [{ metric: "loss", title: "Loss" }, { metric: "rewards/margins", title: "Reward margin" }],
    x: { label: "step", from: 0, setting: "maxSteps" },
    unit: "step",
    columns: ["Prompt", "Before", "Now", "Reward"],
    hint: WATCHED,
  },
  "best-of-n": {
    title: "Best-of-n",
    summary: "Trains nothing: writes n replies to each prompt and keeps the one with the highest reward.",
    settings: {
      n: whole("Replies a prompt", bestOfN.n, 64),
      count: whole("Prompts", 24, 2048),
      seed,
    },
    fixed: { ...bestOfN, perDeviceBatchSize: 2 },
    curves: [{ metric: "reward", title: "Mean reward of the best of n" }, {
      metric: "klBound",
      title: "Bound on the KL, nats",
    }],
    x: { label: "n", from: 1, setting: "n" },
    unit: "prompt",
    columns: ["Prompt", "First reply", "Best of n", "Reward"],
    hint: "Unseen prompts, the first of the n replies and the best of them; the newest prompt stands first.",
  },
};

export const choices = Object.keys(offers) as readonly Choice[];

export const isChoice = (name: string): name is Choice => Object.hasOwn(offers, name);
