/** AdamW (Loshchilov & Hutter 2019, arXiv:1711.05101) with clipping by the global norm, as PyTorch computes both. */
import { AttuneError } from "../core/errors.ts";
import type { Effect } from "../graph/op.ts";
import { likeParameters, type ParameterSet } from "../graph/parameters.ts";
import { read, type Sym, type Variable, variable } from "../graph/sym.ts";
import { adamTick, adamw as updateArena, gradNorm as normOf } from "../ops/adamw.ts";

export interface AdamWOptions {
  /** Decay rates of the first and second moment. Default [0.9, 0.999]. */
  readonly betas?: readonly [number, number];
  /** Added to √v̂, outside the root. Default 1e-8. */
  readonly eps?: number;
  /** Decoupled decay of the parameters that ask for it. Default 0. */
  readonly weightDecay?: number;
}

/** Per-step scalars `[]`: the learning rate, and the norm to clip to, where 0 or Infinity turns clipping off. */
export interface OptimizerKnobs {
  readonly learningRate: Sym;
  readonly maxGradNorm: Sym;
}

/** What an optimizer keeps for one parameter set. */
export interface OptimizerState {
  /** Where a step puts the gradients, by the parameters' names. Their values do not outlive the step. */
  readonly gradients: ParameterSet;
  /** Root variables that a snapshot holds beside the parameters; zeros at the start. */
  readonly saved: readonly Variable[];
  /**
   * Emits the update of all parameters, once per trace and after the gradients were assigned. `gradNorm` is the norm
   * before clipping; when it is not finite, parameters and everything in `saved` keep all their bits.
   */
  update(knobs: OptimizerKnobs): { effects: Effect[]; gradNorm: Sym };
}

export interface Optimizer {
  /** Declares the optimizer's variables for these parameters. */
  attach(parameters: ParameterSet): OptimizerState;
}

/** Makes the optimizer. Errors: `adamw-option`. */
export function adamw(
  { betas: [beta1, beta2] = [0.9, 0.999], eps = 1e-8, weightDecay = 0 }: AdamWOptions = {},
): Optimizer {
  check(beta1 >= 0 && beta1 < 1 && beta2 >= 0 && beta2 < 1, "betas lie in [0, 1)", [beta1, beta2]);
  check(eps > 0 && Number.isFinite(eps), "eps is positive, for it divides where a gradient was always 0", eps);
  check(weightDecay >= 0 && Number.isFinite(weightDecay), "weightDecay is finite and not negative", weightDecay);

  return {
    attach(parameters) {
      const like = (part: string): ParameterSet => likeParameters(parameters, `${parameters.label}.${part}`);
      const [gradients, m, v] = [like("gradients"), like("m"), like("v")];
      const clock = variable(`${parameters.label}.clock`, [3]); // [1 − β1^t, 1 − β2^t, t]
      return {
        gradients,
        saved: [...m.arenas, ...v.arenas].map((a) => a.variable).concat(clock),
        update({ learningRate, maxGradNorm }) {
          const gradNorm = normOf(gradients.arenas.map((a) => read(a.variable)));
          const tick = adamTick(clock, gradNorm, { beta1, beta2 });
          const updates = parameters.arenas.map((arena, i) => {
            const [atM, atV, atGradient] = [m, v, gradients].map((set) => set.arenas[i].variable);
            return updateArena(
              { params: arena.variable, m: atM, v: atV, gradients: atGradient },
              { clock, gradNorm, learningRate, maxGradNorm },
              { beta1, beta2, eps, weightDecay, decayEnd: arena.decayEnd },
            );
          });
          return { effects: [tick, ...updates], gradNorm };
        },
      };
    },
  };
}

function check(holds: boolean, wants: string, got: number | readonly number[]): void {
  if (!holds) throw new AttuneError("adamw-option", `adamw: ${wants}; got ${got}`);
}
