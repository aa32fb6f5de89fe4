/** Two statistics of a few host numbers. */

export const mean = (xs: ArrayLike<number>): number => Array.from(xs).reduce((a, b) => a + b, 0) / xs.length;

/** Standard deviation with Bessel's correction, as torch.std; 0 for one value. */
export function std(xs: ArrayLike<number>): number {
  const m = mean(xs);
  return xs.length < 2 ? 0 : Math.sqrt(Array.from(xs).reduce((a, x) => a + (x - m) ** 2, 0) / (xs.length - 1));
}
