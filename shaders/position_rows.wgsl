// y[b, t, c] = table[offsets[b] + t, c], and 0 where offsets[b] + t ≥ P.
//
// table: [P, C], offsets: [B], y: [B, T, C]. One workgroup copies WG elements, one an invocation.
override WG: u32 = 64u;

struct Params { total: u32, P: u32, T: u32, C: u32 }
@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> table: array<f32>;
@group(0) @binding(2) var<storage, read> offsets: array<u32>;
@group(0) @binding(3) var<storage, read_write> y: array<f32>;

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) w: vec3u, @builtin(num_workgroups) count: vec3u, @builtin(local_invocation_index) l: u32) {
  let i = (w.y * count.x + w.x) * WG + l;
  if (i >= p.total) { return; }
  let step = i / p.C;
  let position = offsets[step / p.T] + step % p.T;
  var value = 0.0;
  if (position < p.P) { value = table[position * p.C + i % p.C]; }
  y[i] = value;
}
