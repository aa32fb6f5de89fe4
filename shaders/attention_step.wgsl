// Attention of one query a row, as decoding with a cache has it: attention.wgsl with T = 1.
//
// q, out: [B, 1, H, D]; k, v: [B, S, Hkv, D]; lse: [B, 1, H]; D in vec4 (D4); offsets: [B] when OFFSETS = 1, else all 0;
// lengths: [B] when LENGTHS = 1, else all 1. One invocation computes one head of one row, a chunk of keys at a time: first
// their weights, then their part of out, which is kept in memory, so that D has no bound. Keys past offsets[b] are never read.
override WG: u32 = 16u;
override OFFSETS: u32 = 0u;
override LENGTHS: u32 = 0u;

const CHUNK = 128u;
const LOWEST = -3.4028234e38;

struct Params { tasks: u32, S: u32, H: u32, Hkv: u32, D4: u32, scale: f32 }
@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> q: array<vec4f>;
@group(0) @binding(2) var<storage, read> k: array<vec4f>;
@group(0) @binding(3) var<storage, read> v: array<vec4f>;
@group(0) @binding(4) var<storage, read> offsets: array<u32>;
@group(0) @binding(5) var<storage, read> lengths: array<u32>;
@group(0) @binding(6) var<storage, read_write> out: array<vec4f>;
@group(0) @binding(7) var<storage, read_write> lse: array<f32>;

var<private> weights: array<f32, CHUNK>;

fn sumOf(a: vec4f) -> f32 { return (a.x + a.y) + (a.z + a.w); }
fn maxOf(a: vec4f) -> f32 { return max(max(a.x, a.y), max(a.z, a.w)); }

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) w: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) l: u32) {
  let task = (w.y * groups.x + w.x) * WG + l;
  if (task >= p.tasks) { return; }
  let h = task % p.H;
  let b = task / p.H;
  let stride = p.Hkv * p.D4;
  let head = (b * p.S * p.Hkv + h / (p.H / p.Hkv)) * p.D4;
  var keys = 1u;
  if (OFFSETS == 1u) { keys = min(offsets[b], p.S - 1u) + 1u; }
  if (LENGTHS == 1u) { keys = select(keys, 0u, lengths[b] == 0u); }

  var top = LOWEST;
  var sum = 0.0;
  for (var start = 0u; start < keys; start += CHUNK) {
    let count = min(CHUNK, keys - start);
    let before = top;
    for (var j = 0u; j < count; j += 8u) {
      // Keys past the last one stand in for it, and are not summed.
      let last = vec4u(keys - 1u);
      let ka = head + min(start + j + vec4u(0u, 1u, 2u, 3u), last) * stride;
      let kb = head + min(start + j + vec4u(4u, 5u, 6u, 7u), last) * stride;
      var s0 = vec4f();
      var s1 = vec4f();
      var s2 = vec4f();
      var s3 = vec4f();
      var s4 = vec4f();
      var s5 = vec4f();
      var s6 = vec4f();
      var s7 = vec4f();
      for (var d = 0u; d < p.D4; d++) {
        let x = q[task * p.D4 + d];
        s0 = fma(x, k[ka.x + d], s0);
        s1 = fma(x, k[ka.y + d], s1);
        s2 = fma(x, k[ka.z + d], s2);
        s3 = fma(x, k[ka.w + d], s3);
        s4 = fma(x, k[kb.x + d], s4);
        s5 = fma(x, k[kb.y + d], s5);
        s6 = fma(x, k[kb.z + d], s6);
        s7 = fma(x, k[kb.w + d], s7);
      }
      let scoresA = vec4f(sumOf(s0), sumOf(s1), sumOf(s2), sumOf(s3)) * p.scale;
      let scoresB = vec4f(sumOf(s4), sumOf(s5), sumOf(s6), sumOf(s7)) * p.scale;
      top = max(top, maxOf(max(scoresA, scoresB)));
      weights[j] = scoresA.x;
      weights[j + 1u] = scoresA.y;
      weights[j + 2u] = scoresA.z;
      weights[j + 3u] = scoresA.w;
      weights[j + 4u] = scoresB.x;
      weights[j + 5u] = scoresB.y;
      weights[j + 6u] = scoresB.z;
      weights[j + 7u] = scoresB.w;
    }
    let fade = exp(before - top);
    sum *= fade;
    for (var j = 0u; j < count; j++) {
      let weight = exp(weights[j] - top);
      weights[j] = weight;
      sum += weight;
    }
    // What earlier chunks added fades to the new maximum; the last chunk divides by the sum.
    let share = select(1.0, 1.0 / sum, start + CHUNK >= keys);
    for (var d0 = 0u; d0 < p.D4; d0 += 4u) {
      // Columns past the end stand in for the last one.
      let d = min(vec4u(d0, d0 + 1u, d0 + 2u, d0 + 3u), vec4u(p.D4 - 1u));
      let at = task * p.D4 + d;
      var o0 = vec4f();
      var o1 = vec4f();
      var o2 = vec4f();
      var o3 = vec4f();
      if (start > 0u) {
        o0 = out[at.x] * fade;
        o1 = out[at.y] * fade;
        o2 = out[at.z] * fade;
        o3 = out[at.w] * fade;
      }
      var place = head + start * stride + d;
      for (var j = 0u; j < count; j++) {
        let weight = vec4f(weights[j]);
        o0 = fma(weight, v[place.x], o0);
        o1 = fma(weight, v[place.y], o1);
        o2 = fma(weight, v[place.z], o2);
        o3 = fma(weight, v[place.w], o3);
        place += stride;
      }
      out[at.x] = o0 * share;
      out[at.y] = o1 * share;
      out[at.z] = o2 * share;
      out[at.w] = o3 * share;
    }
  }
  if (keys == 0u) {
    for (var d = 0u; d < p.D4; d++) { out[task * p.D4 + d] = vec4f(); }
  }
  lse[task] = select(top + log(sum), 0.0, keys == 0u);
}
