// dtable[v, c] = Σ of dy[n, c] over the n with ids[n] = v, in the order of n: the same bits every time, without atomics.
//
// dy: [N, C]; segments: [V + 1 + N], where segments[v] … segments[v + 1] bound v's part of the N sorted row numbers that
// follow them; dtable: [V, C]. An invocation sums one element; one workgroup WG of them.
override WG: u32 = 64u;

struct Params { total: u32, V: u32, C: u32 }
@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> dy: array<f32>;
@group(0) @binding(2) var<storage, read> segments: array<u32>;
@group(0) @binding(3) var<storage, read_write> dtable: array<f32>;

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) w: vec3u, @builtin(num_workgroups) count: vec3u, @builtin(local_invocation_index) l: u32) {
  let i = (w.y * count.x + w.x) * WG + l;
  if (i >= p.total) { return; }
  let v = i / p.C;
  let c = i % p.C;
  var sum = 0.0;
  for (var k = segments[v]; k < segments[v + 1u]; k++) { sum += dy[segments[p.V + 1u + k] * p.C + c]; }
  dtable[i] = sum;
}
