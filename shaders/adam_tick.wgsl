// Adam's clock: c1 ← c1 + (1 − β1)(1 − c1), so that c1 = 1 − β1^t; c2 likewise; t ← t + 1. Not when `norm` is not finite.
//
// norm: [] as bits, since compilers may assume that no float is NaN; clock: [c1, c2, t]. One invocation does it all.
struct Params { rate1: f32, rate2: f32 } // 1 − β1, 1 − β2
@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> norm: array<u32>;
@group(0) @binding(2) var<storage, read_write> clock: array<f32>;

@compute @workgroup_size(1)
fn main() {
  if ((norm[0] & 0x7f800000u) == 0x7f800000u) { return; }
  clock[0] = fma(p.rate1, 1.0 - clock[0], clock[0]);
  clock[1] = fma(p.rate2, 1.0 - clock[1], clock[1]);
  clock[2] += 1.0;
}
