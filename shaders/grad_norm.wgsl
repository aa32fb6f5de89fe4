// y = √(Σ part), the last pass of a norm, in a fixed order.
//
// part: [n], y: []. One workgroup: invocation l adds part[l], part[l + WG], …, then a tree joins the WG sums.
override WG: u32 = 64u;

struct Params { n: u32 }
@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> part: array<f32>;
@group(0) @binding(2) var<storage, read_write> y: array<f32>;

var<workgroup> sums: array<f32, WG>;

@compute @workgroup_size(WG)
fn main(@builtin(local_invocation_index) l: u32) {
  var acc = 0.0;
  for (var i = l; i < p.n; i += WG) { acc += part[i]; }
  sums[l] = acc;
  for (var half = WG / 2u; half > 0u; half /= 2u) {
    workgroupBarrier();
    if (l < half) { sums[l] += sums[l + half]; }
  }
  if (l == 0u) { y[0] = sqrt(sums[0]); }
}
