alias pack = f32; const OFFSETS = 0.0; fn total(v: pack) -> f32 { return v; } fn greatest(v: pack) -> f32 { return v; }
// y = silu(gate) ⊙ up, where silu(x) = x σ(x).
//
// gate, up, y: [n]. One workgroup computes WG packs, one an invocation.
// Elements are taken in packs of one or four: see src/ops/packs.ts.
override WG: u32 = 64u;

struct Params { packs: u32 }
@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> gate: array<pack>;
@group(0) @binding(2) var<storage, read> up: array<pack>;
@group(0) @binding(3) var<storage, read_write> y: array<pack>;

fn sigmoid(v: pack) -> pack {
  let e = exp(-abs(v));
  return select(pack(1.0), e, v < pack()) / (1.0 + e);
}

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) w: vec3u, @builtin(num_workgroups) count: vec3u, @builtin(local_invocation_index) l: u32) {
  let i = (w.y * count.x + w.x) * WG + l;
  if (i >= p.packs) { return; }
  let a = gate[i];
  y[i] = a * sigmoid(a) * up[i];
}
