/**
 * Counter-based random numbers: Philox-4x32-10 (Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3").
 *
 * A draw depends on its key and counter alone, never on how many draws came before, so that text, shuffles and
 * initial weights can be replayed in any order. `shaders/common/rng.wgsl` computes the same bits on the device.
 */

const M0 = 0xd2511f53;
const M1 = 0xcd9e8d57;
const W0 = 0x9e3779b9;
const W1 = 0xbb67ae85;

/** One block of four u32: `counter` under the 64-bit key `[key0, key1]`. */
export function philox(
  counter: readonly [number, number, number, number],
  key: readonly [number, number],
): [number, number, number, number] {
  let [c0, c1, c2, c3] = counter;
  let [k0, k1] = key;
  for (let round = 0; round < 10; round++) {
    const [hi0, lo0] = mulHiLo(M0, c0);
    const [hi1, lo1] = mulHiLo(M1, c2);
    [c0, c1, c2, c3] = [(hi1 ^ c1 ^ k0) >>> 0, lo1, (hi0 ^ c3 ^ k1) >>> 0, lo0];
    k0 = (k0 + W0) >>> 0;
    k1 = (k1 + W1) >>> 0;
  }
  return [c0 >>> 0, c1 >>> 0, c2 >>> 0, c3 >>> 0];
}

/** High and low halves of a 32 x 32 bit product, through 16-bit limbs as in the shader. */
function mulHiLo(a: number, b: number): [number, number] {
  const lo = Math.imul(a, b) >>> 0;
  const ah = a >>> 16, al = a & 0xffff, bh = b >>> 16, bl = b & 0xffff;
  const mid = ah * bl + ((al * bl) >>> 16);
  const mid2 = al * bh + (mid & 0xffff);
  const hi = (ah * bh + Math.floor(mid / 65536) + Math.floor(mid2 / 65536)) >>> 0;
  return [hi, lo];
}

/** Maps a u32 to the open interval (0, 1): never 0, so that its logarithm is finite. */
export const uniformFromBits = (bits: number): number => ((bits >>> 9) + 0.5) * 2 ** -23;

/** A sequential view of Philox for host code: `stream` separates the uses of one seed. */
export class Rng {
  readonly seed: number;
  readonly stream: number;
  #position = 0;

  constructor(seed: number, stream = 0) {
    this.seed = seed >>> 0;
    this.stream = stream >>> 0;
  }

  /** A uniform number in (0, 1). */
  next(): number {
    const n = this.#position++;
    const block = philox([Math.floor(n / 4) >>> 0, 0, 0, 0], [this.seed, this.stream]);
    return uniformFromBits(block[n % 4]);
  }

  /** A uniform integer in [0, n). */
  int(n: number): number {
    return Math.min(n - 1, Math.floor(this.next() * n));
  }

  /** A standard normal number (Box-Muller, one of the pair). */
  normal(): number {
    return Math.sqrt(-2 * Math.log(this.next())) * Math.cos(2 * Math.PI * this.next());
  }

  pick<T>(items: readonly T[]): T {
    return items[this.int(items.length)];
  }

  /** A shuffled copy (Fisher-Yates). */
  shuffle<T>(items: readonly T[]): T[] {
    const out = [...items];
    for (let i = out.length - 1; i > 0; i--) {
      const j = this.int(i + 1);
      [out[i], out[j]] = [out[j], out[i]];
    }
    return out;
  }
}
