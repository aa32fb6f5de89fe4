// cache[b, offsets[b] + t, i] = values[b, t, i] for t < lengths[b]; positions ≥ S are dropped.
//
// cache: [B, S, inner], values: [B, T, inner]; offsets: [B] when OFFSETS = 1, else all 0; lengths: [B] when LENGTHS = 1,
// else all T. One workgroup writes WG elements, one an invocation.
override WG: u32 = 64u;
override OFFSETS: u32 = 0u;
override LENGTHS: u32 = 0u;

struct Params { total: u32, T: u32, S: u32, inner: u32 }
@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> values: array<f32>;
@group(0) @binding(2) var<storage, read> offsets: array<u32>;
@group(0) @binding(3) var<storage, read> lengths: array<u32>;
@group(0) @binding(4) var<storage, read_write> cache: array<f32>;

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) w: vec3u, @builtin(num_workgroups) count: vec3u, @builtin(local_invocation_index) l: u32) {
  let n = (w.y * count.x + w.x) * WG + l;
  if (n >= p.total) { return; }
  let step = n / p.inner;
  let b = step / p.T;
  let t = step % p.T;
  if (LENGTHS == 1u) {
    if (t >= lengths[b]) { return; }
  }
  var first = 0u;
  if (OFFSETS == 1u) { first = offsets[b]; }
  // Not first + t < S, which could wrap around.
  if (first >= p.S || t >= p.S - first) { return; }
  cache[(b * p.S + first + t) * p.inner + n % p.inner] = values[n];
}
