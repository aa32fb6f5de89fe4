// y[n, c] = table[ids[n], c], and 0 where ids[n] ≥ V.
//
// table: [V, C], ids: [N], y: [N, C]. One workgroup copies WG elements, one an invocation.
override WG: u32 = 64u;

struct Params { total: u32, V: u32, C: u32 }
@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> table: array<f32>;
@group(0) @binding(2) var<storage, read> ids: array<u32>;
@group(0) @binding(3) var<storage, read_write> y: array<f32>;

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) w: vec3u, @builtin(num_workgroups) count: vec3u, @builtin(local_invocation_index) l: u32) {
  let i = (w.y * count.x + w.x) * WG + l;
  if (i >= p.total) { return; }
  let id = ids[i / p.C];
  var value = 0.0;
  if (id < p.V) { value = table[id * p.C + i % p.C]; }
  y[i] = value;
}
