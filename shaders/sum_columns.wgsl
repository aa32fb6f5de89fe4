// y[s, i] = sum over k in segment s of x[k, i]: many outputs with stride-one reads, each a sequential loop.
//
// x: [n, inner], y: [segments, inner]; segment s covers rows s * chunk up to (s + 1) * chunk. One invocation computes
// one output, one workgroup WG neighbouring columns of one segment.
override WG: u32 = 64u;

struct Params { n: u32, inner: u32, chunk: u32 }
@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> x: array<f32>;
@group(0) @binding(2) var<storage, read_write> y: array<f32>;

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) w: vec3u, @builtin(local_invocation_index) l: u32) {
  let i = w.x * WG + l;
  if (i >= p.inner) { return; }
  let end = min(p.n, (w.y + 1u) * p.chunk);
  var acc = 0.0;
  for (var k = w.y * p.chunk; k < end; k++) { acc += x[k * p.inner + i]; }
  y[w.y * p.inner + i] = acc;
}
