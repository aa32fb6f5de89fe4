// Rotary position embedding (Su et al. 2021, arXiv:2104.09864), halves convention: with a = x[.., i], b = x[.., i + D/2]
// and the angle φ = position · θ^(−2i/D), y[.., i] = a cos φ − b sin φ and y[.., i + D/2] = b cos φ + a sin φ.
// SIGN = −1 rotates back, which is the gradient.
//
// x, y: [B, T, H, D]; table: [P, D], a row's cosines and then its sines; offsets: [B] when OFFSETS = 1. Step t of row b
// stands at offsets[b] + t; positions ≥ P give zeros. An invocation rotates one pair; one workgroup rotates WG pairs.
override WG: u32 = 64u;
override SIGN: f32 = 1.0;
override OFFSETS: u32 = 0u;

struct Params { pairs: u32, half: u32, H: u32, T: u32, P: u32 }
@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> x: array<f32>;
@group(0) @binding(2) var<storage, read> table: array<f32>;
@group(0) @binding(3) var<storage, read> offsets: array<u32>;
@group(0) @binding(4) var<storage, read_write> y: array<f32>;

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) w: vec3u, @builtin(num_workgroups) count: vec3u, @builtin(local_invocation_index) l: u32) {
  let n = (w.y * count.x + w.x) * WG + l;
  if (n >= p.pairs) { return; }
  let i = n % p.half;
  let step = n / (p.half * p.H);
  var position = step % p.T;
  if (OFFSETS == 1u) { position += offsets[step / p.T]; }
  let at = (n / p.half) * 2u * p.half + i;
  if (position >= p.P) {
    y[at] = 0.0;
    y[at + p.half] = 0.0;
    return;
  }
  let row = position * 2u * p.half + i;
  let c = table[row];
  let s = SIGN * table[row + p.half];
  let a = x[at];
  let b = x[at + p.half];
  y[at] = fma(a, c, -(b * s));
  y[at + p.half] = fma(b, c, a * s);
}
