// y[o, i] = reduction over k of x[o, k, i]: a sum or a maximum, in a fixed order.
//
// x: [outer, n, inner], y: [outer, inner]. One workgroup of WG invocations reduces one output: invocation l takes
// k = l, l + WG, …, then a tree joins the WG partial results. With WG = 1 an output is one sequential loop.
override WG: u32 = 64u;
override MAX: u32 = 0u;

struct Params { outputs: u32, n: u32, inner: u32 }
@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> x: array<f32>;
@group(0) @binding(2) var<storage, read_write> y: array<f32>;

var<workgroup> part: array<f32, WG>;

fn join(a: f32, b: f32) -> f32 { return select(a + b, max(a, b), MAX == 1u); }

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) w: vec3u, @builtin(num_workgroups) count: vec3u, @builtin(local_invocation_index) l: u32) {
  let o = w.y * count.x + w.x;
  if (o >= p.outputs) { return; }
  let base = (o / p.inner) * p.n * p.inner + o % p.inner;
  var acc = select(0.0, -3.4028234e38, MAX == 1u);
  for (var k = l; k < p.n; k += WG) { acc = join(acc, x[base + k * p.inner]); }
  part[l] = acc;
  for (var half = WG / 2u; half > 0u; half /= 2u) {
    workgroupBarrier();
    if (l < half) { part[l] = join(part[l], part[l + half]); }
  }
  if (l == 0u) { y[o] = part[0]; }
}
