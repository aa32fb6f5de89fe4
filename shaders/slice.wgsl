// With PAD = 0: y[o, j, i] = x[o, start + j, i], a part of one axis. With PAD = 1 the reverse: y is zero outside
// [start, start + part) and takes x there.
//
// The long tensor is [outer, n, inner], the short one [outer, part, inner]. One workgroup writes WG elements of y, as bits.
override WG: u32 = 64u;
override PAD: u32 = 0u;

struct Params { total: u32, n: u32, part: u32, inner: u32, start: u32 }
@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> x: array<u32>;
@group(0) @binding(2) var<storage, read_write> y: array<u32>;

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) w: vec3u, @builtin(num_workgroups) count: vec3u, @builtin(local_invocation_index) l: u32) {
  let t = (w.y * count.x + w.x) * WG + l;
  if (t >= p.total) { return; }
  let i = t % p.inner;
  if (PAD == 0u) {
    let j = (t / p.inner) % p.part;
    y[t] = x[((t / (p.inner * p.part)) * p.n + p.start + j) * p.inner + i];
    return;
  }
  let k = (t / p.inner) % p.n;
  let o = t / (p.inner * p.n);
  let inside = k >= p.start && k < p.start + p.part;
  y[t] = select(0u, x[(o * p.part + min(k - p.start, p.part - 1u)) * p.inner + i], inside);
}
