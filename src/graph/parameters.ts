/**
 * Parameter sets: the named tensors of a model, packed into few large variables ("arenas"), so that the optimizer
 * updates all of them in one dispatch per arena. Moments and gradients use arenas of the same layout.
 */
import { AttuneError, unknownName } from "../core/errors.ts";
import { numel, type Shape, showShape } from "../core/shape.ts";
import { read, type Sym, type Variable, variable, VIEW_ALIGN, viewOf } from "./sym.ts";

export interface ParameterSpec {
  readonly name: string;
  readonly shape: Shape;
  /** Whether weight decay applies: no for biases and norm weights. */
  readonly decay: boolean;
}

/** One arena: elements before `decayEnd` belong to decayed parameters. */
export interface Arena {
  readonly variable: Variable;
  readonly decayEnd: number;
}

export interface ParameterSet {
  readonly label: string;
  readonly specs: readonly ParameterSpec[];
  readonly arenas: readonly Arena[];
  /** The view of each parameter, by name. */
  readonly views: ReadonlyMap<string, Variable>;
  /** Elements that one arena may hold. */
  readonly limit: number;
}

/** WebGPU's default maxStorageBufferBindingSize, in f32 elements: an arena never outgrows it. */
export const ARENA_LIMIT = 128 * 1024 * 1024 / 4;

/** Lays the parameters out: decayed ones first, each at a 256-byte boundary, as many arenas as the limit asks for. */
export function parameterSet(
  label: string,
  specs: readonly ParameterSpec[],
  limit: number = ARENA_LIMIT,
): ParameterSet {
  const ordered = [...specs.filter((s) => s.decay), ...specs.filter((s) => !s.decay)];
  const groups: { spec: ParameterSpec; offset: number }[][] = [[]];
  let end = 0;
  for (const spec of ordered) {
    const size = numel(spec.shape);
    if (size > limit) {
      throw new AttuneError(
        "parameter-too-large",
        `${spec.name}${showShape(spec.shape)} takes ${size * 4} bytes, one binding holds ${limit * 4}`,
      );
    }
    if (end + size > limit) {
      groups.push([]);
      end = 0;
    }
    groups[groups.length - 1].push({ spec, offset: end });
    end = Math.ceil((end + size) / VIEW_ALIGN) * VIEW_ALIGN;
  }
  const views = new Map<string, Variable>();
  const arenas = groups.map((group, i): Arena => {
    const ends = (decay: boolean): number[] =>
      group.filter((g) => !decay || g.spec.decay).map((g) => g.offset + numel(g.spec.shape));
    const size = Math.max(VIEW_ALIGN, ...ends(false));
    const arena = variable(groups.length === 1 ? label : `${label}.${i}`, [Math.ceil(size / VIEW_ALIGN) * VIEW_ALIGN]);
    for (const { spec, offset } of group) {
      views.set(spec.name, viewOf(arena, `${label}/${spec.name}`, spec.shape, offset));
    }
    return { variable: arena, decayEnd: Math.max(0, ...ends(true)) };
  });
  return { label, specs, arenas, views, limit };
}

/** Arenas of the same layout for gradients or moments. */
export const likeParameters = (set: ParameterSet, label: string): ParameterSet =>
  parameterSet(label, set.specs, set.limit);

/** Parameters as Syms within one trace, by dotted name: `scope.in("model.layers.0").get("mlp.up_proj.weight")`. */
export interface Scope {
  get(name: string): Sym;
  has(name: string): boolean;
  in(prefix: string): Scope;
}

/** A scope over all parameters of a set. Each parameter is one Sym per scope, so that its gradient is one sum. */
export function scopeOf(set: ParameterSet): Scope & { all(): Sym[] } {
  const syms = new Map<string, Sym>([...set.views].map(([name, v]) => [name, read(v)]));
  const at = (prefix: string): Scope => ({
    get(name) {
      const sym = syms.get(prefix + name);
      if (sym === undefined) throw unknownName("parameter", prefix + name, syms.keys());
      return sym;
    },
    has: (name) => syms.has(prefix + name),
    in: (inner) => at(`${prefix}${inner}.`),
  });
  return { ...at(""), all: () => set.specs.map((s) => at("").get(s.name)) };
}
