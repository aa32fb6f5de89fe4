// Causal attention with an online softmax (Milakov & Gimelshein 2018, arXiv:1805.02867; Dao et al. 2022, arXiv:2205.14135):
// out[b, t, h] = Σ_s softmax_s(scale · q[b, t, h] · k[b, s, g]) v[b, s, g] over s ≤ offsets[b] + t, with g = h / (H / Hkv),
// and lse[b, t, h] = log Σ_s exp(scale · q · k). Queries t ≥ lengths[b] give zeros.
//
// q, out: [B, T, H, D]; k, v: [B, S, Hkv, D]; lse: [B, T, H]; D counts in vec4 (D4); offsets: [B] when OFFSETS = 1, else
// all 0; lengths: [B] when LENGTHS = 1, else all T. One invocation computes four neighbouring queries of one head, which
// share every load of a key or value: a chunk of keys at a time, first its probabilities (one vec4 a key), then its part
// of out, which is kept in memory, so that D has no bound. Keys that no query may see are never read.
override WG: u32 = 64u;
override OFFSETS: u32 = 0u;
override LENGTHS: u32 = 0u;

const CHUNK = 32u;
const LOWEST = -3.4028234e38;

struct Params { tasks: u32, blocks: u32, T: u32, S: u32, H: u32, Hkv: u32, D4: u32, scale: f32 }
@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> q: array<vec4f>;
@group(0) @binding(2) var<storage, read> k: array<vec4f>;
@group(0) @binding(3) var<storage, read> v: array<vec4f>;
@group(0) @binding(4) var<storage, read> offsets: array<u32>;
@group(0) @binding(5) var<storage, read> lengths: array<u32>;
@group(0) @binding(6) var<storage, read_write> out: array<vec4f>;
@group(0) @binding(7) var<storage, read_write> lse: array<f32>;

/** acc[i] += a_i · b for four queries a_i. */
fn dots(acc: vec4f, a0: vec4f, a1: vec4f, a2: vec4f, a3: vec4f, b: vec4f) -> vec4f {
  var s = fma(vec4f(a0.x, a1.x, a2.x, a3.x), vec4f(b.x), acc);
  s = fma(vec4f(a0.y, a1.y, a2.y, a3.y), vec4f(b.y), s);
  s = fma(vec4f(a0.z, a1.z, a2.z, a3.z), vec4f(b.z), s);
  return fma(vec4f(a0.w, a1.w, a2.w, a3.w), vec4f(b.w), s);
}

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) w: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) l: u32) {
  let task = (w.y * groups.x + w.x) * WG + l;
  if (task >= p.tasks) { return; }
  let t = 4u * (task % p.blocks);
  let h = (task / p.blocks) % p.H;
  let b = task / (p.blocks * p.H);
  let step = p.H * p.D4;
  let row = (b * p.T * p.H + h) * p.D4;

  var length = p.T;
  if (LENGTHS == 1u) { length = min(length, lengths[b]); }
  for (var i = max(t, length); i < min(t + 4u, p.T); i++) {
    lse[(b * p.T + i) * p.H + h] = 0.0;
    for (var d = 0u; d < p.D4; d++) { out[row + i * step + d] = vec4f(); }
  }
  if (t >= length) { return; }
  var first = 0u;
  if (OFFSETS == 1u) { first = min(offsets[b], p.S); }

  // Queries past the row's end stand in for its last one and are not written.
  let at = vec4u(row) + min(vec4u(t, t + 1u, t + 2u, t + 3u), vec4u(length - 1u)) * step;
  let visible = min(vec4u(first + 1u) + min(vec4u(t, t + 1u, t + 2u, t + 3u), vec4u(length - 1u)), vec4u(p.S));
  let keys = visible.w;
  let stride = p.Hkv * p.D4;
  let head = (b * p.S * p.Hkv + h / (p.H / p.Hkv)) * p.D4;

  var chunk: array<vec4f, CHUNK>;
  var top = vec4f(LOWEST);
  var sum = vec4f();
  for (var start = 0u; start < keys; start += CHUNK) {
    let count = min(CHUNK, keys - start);
    var best = top;
    for (var j = 0u; j < count; j += 4u) {
      let key = start + vec4u(j, j + 1u, j + 2u, j + 3u);
      let place = vec4u(head) + min(key, vec4u(keys - 1u)) * stride;
      var s0 = vec4f();
      var s1 = vec4f();
      var s2 = vec4f();
      var s3 = vec4f();
      for (var d = 0u; d < p.D4; d++) {
        let q0 = q[at.x + d];
        let q1 = q[at.y + d];
        let q2 = q[at.z + d];
        let q3 = q[at.w + d];
        s0 = dots(s0, q0, q1, q2, q3, k[place.x + d]);
        s1 = dots(s1, q0, q1, q2, q3, k[place.y + d]);
        s2 = dots(s2, q0, q1, q2, q3, k[place.z + d]);
        s3 = dots(s3, q0, q1, q2, q3, k[place.w + d]);
      }
      s0 = select(vec4f(LOWEST), s0 * p.scale, vec4u(key.x) < visible);
      s1 = select(vec4f(LOWEST), s1 * p.scale, vec4u(key.y) < visible);
      s2 = select(vec4f(LOWEST), s2 * p.scale, vec4u(key.z) < visible);
      s3 = select(vec4f(LOWEST), s3 * p.scale, vec4u(key.w) < visible);
      best = max(best, max(max(s0, s1), max(s2, s3)));
      chunk[j] = s0;
      chunk[j + 1u] = s1;
      chunk[j + 2u] = s2;
      chunk[j + 3u] = s3;
    }
    let keep = exp(top - best);
    top = best;
    sum *= keep;
    for (var j = 0u; j < count; j++) {
      let e = exp(chunk[j] - top);
      chunk[j] = e;
      sum += e;
    }

    // What earlier chunks added is scaled to the new maximum; the last chunk divides by the sum.
    let share = select(vec4f(1.0), 1.0 / sum, start + CHUNK >= keys);
    for (var d = 0u; d < p.D4; d++) {
      var o0 = vec4f();
      var o1 = vec4f();
      var o2 = vec4f();
      var o3 = vec4f();
      if (start > 0u) {
        o0 = out[at.x + d] * keep.x;
        if (t + 1u < length) { o1 = out[at.y + d] * keep.y; }
        if (t + 2u < length) { o2 = out[at.z + d] * keep.z; }
        if (t + 3u < length) { o3 = out[at.w + d] * keep.w; }
      }
      var place = head + start * stride + d;
      for (var j = 0u; j < count; j++) {
        let e = chunk[j];
        let value = v[place];
        o0 = fma(vec4f(e.x), value, o0);
        o1 = fma(vec4f(e.y), value, o1);
        o2 = fma(vec4f(e.z), value, o2);
        o3 = fma(vec4f(e.w), value, o3);
        place += stride;
      }
      out[at.x + d] = o0 * share.x;
      if (t + 1u < length) { out[at.y + d] = o1 * share.y; }
      if (t + 2u < length) { out[at.z + d] = o2 * share.z; }
      if (t + 3u < length) { out[at.w + d] = o3 * share.w; }
    }
  }
  let logs = top + log(sum);
  for (var i = 0u; i < min(4u, length - t); i++) { lse[(b * p.T + t + i) * p.H + h] = logs[i]; }
}
