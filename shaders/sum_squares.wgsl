// part[offset + i] = Σ of the squares that invocation i reads: the first pass of a norm, in a fixed order.
//
// x: [n] vec4f; part: [parts], of which this dispatch fills WG per workgroup, zeros included. One workgroup reads
// WG * RUN neighbouring vectors, invocation l the vectors l, l + WG, … of them. The last pass is grad_norm.wgsl.
override WG: u32 = 64u;
override RUN: u32 = 32u;

struct Params { n: u32, offset: u32 }
@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> x: array<vec4f>;
@group(0) @binding(2) var<storage, read_write> part: array<f32>;

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) w: vec3u, @builtin(num_workgroups) count: vec3u, @builtin(local_invocation_index) l: u32) {
  let group = w.y * count.x + w.x;
  let begin = group * WG * RUN + l;
  let end = min(p.n, (group + 1u) * WG * RUN);
  if (group * WG * RUN >= p.n) { return; }
  var acc = vec4f(0.0);
  for (var i = begin; i < end; i += WG) { acc = fma(x[i], x[i], acc); }
  part[p.offset + group * WG + l] = (acc.x + acc.y) + (acc.z + acc.w);
}
