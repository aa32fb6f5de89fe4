alias pack = f32; const OFFSETS = 0.0; fn total(v: pack) -> f32 { return v; } fn greatest(v: pack) -> f32 { return v; }
// dgate = dy ⊙ up ⊙ (s + gate s (1 − s)) and dup = dy ⊙ gate s, where s = σ(gate): the gradient of silu(gate) ⊙ up.
//
// All arrays: [n]. One workgroup computes WG packs, one an invocation.
// Elements are taken in packs of one or four: see src/ops/packs.ts.
override WG: u32 = 64u;

struct Params { packs: u32 }
@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> gate: array<pack>;
@group(0) @binding(2) var<storage, read> up: array<pack>;
@group(0) @binding(3) var<storage, read> dy: array<pack>;
@group(0) @binding(4) var<storage, read_write> dgate: array<pack>;
@group(0) @binding(5) var<storage, read_write> dup: array<pack>;

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) w: vec3u, @builtin(num_workgroups) count: vec3u, @builtin(local_invocation_index) l: u32) {
  let i = (w.y * count.x + w.x) * WG + l;
  if (i >= p.packs) { return; }
  let a = gate[i];
  // s and 1 − s from the same exponential: neither loses digits where the other is near 1.
  let e = exp(-abs(a));
  let near = 1.0 / (1.0 + e);
  let far = e * near;
  let s = select(near, far, a < pack());
  let rest = select(far, near, a < pack());
  let g = dy[i];
  dgate[i] = g * up[i] * s * fma(a, rest, pack(1.0));
  dup[i] = g * a * s;
}
