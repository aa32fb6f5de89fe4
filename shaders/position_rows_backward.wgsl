// dtable[q, c] = Σ_b dy[b, q − offsets[b], c] over the rows b that reach position q, in the order of b.
//
// dy: [B, T, C], offsets: [B], dtable: [P, C]. An invocation sums one element; one workgroup WG of them.
override WG: u32 = 64u;

struct Params { total: u32, B: u32, T: u32, C: u32 }
@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> dy: array<f32>;
@group(0) @binding(2) var<storage, read> offsets: array<u32>;
@group(0) @binding(3) var<storage, read_write> dtable: array<f32>;

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) w: vec3u, @builtin(num_workgroups) count: vec3u, @builtin(local_invocation_index) l: u32) {
  let i = (w.y * count.x + w.x) * WG + l;
  if (i >= p.total) { return; }
  let position = i / p.C;
  var sum = 0.0;
  for (var b = 0u; b < p.B; b++) {
    let first = offsets[b];
    if (position >= first && position - first < p.T) { sum += dy[(b * p.T + position - first) * p.C + i % p.C]; }
  }
  dtable[i] = sum;
}
