// dq[b, t, h] = scale · Σ_s dS[s] k[b, s, g] with dS = P ∘ (dout · v − Δ), P = exp(scale · q · k − lse), over the keys that
// query t sees and g = h / (H / Hkv). Dao et al. 2022, arXiv:2205.14135, algorithm 4: P is computed anew, not stored.
//
// q, dout, dq: [B, T, H, D]; k, v: [B, S, Hkv, D]; D in vec4 (D4); stats: [B, T, H, 4] = (lse, Δ, visible keys, 0). One
// invocation computes four neighbouring queries of one head, a chunk of keys at a time, as attention.wgsl does.
override WG: u32 = 64u;

const CHUNK = 32u;

struct Params { tasks: u32, blocks: u32, T: u32, S: u32, H: u32, Hkv: u32, D4: u32, scale: f32 }
@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> q: array<vec4f>;
@group(0) @binding(2) var<storage, read> k: array<vec4f>;
@group(0) @binding(3) var<storage, read> v: array<vec4f>;
@group(0) @binding(4) var<storage, read> dout: array<vec4f>;
@group(0) @binding(5) var<storage, read> stats: array<vec4f>;
@group(0) @binding(6) var<storage, read_write> dq: array<vec4f>;

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

  // The block's queries that count: those of the row that see any key. The others stand in for the last of them.
  var length = 0u;
  for (var i = t; i < min(t + 4u, p.T); i++) {
    let query = (b * p.T + i) * p.H + h;
    if (stats[query].z > 0.0) {
      length = i + 1u;
    } else {
      for (var d = 0u; d < p.D4; d++) { dq[query * p.D4 + d] = vec4f(); }
    }
  }
  if (length == 0u) { return; }
  let query = (vec4u(b * p.T) + min(vec4u(t, t + 1u, t + 2u, t + 3u), vec4u(length - 1u))) * p.H + h;
  let at = query * p.D4;
  let st0 = stats[query.x];
  let st1 = stats[query.y];
  let st2 = stats[query.z];
  let st3 = stats[query.w];
  let lse = vec4f(st0.x, st1.x, st2.x, st3.x);
  let delta = vec4f(st0.y, st1.y, st2.y, st3.y);
  let visible = vec4u(vec4f(st0.z, st1.z, st2.z, st3.z));
  let keys = visible.w;
  let stride = p.Hkv * p.D4;
  let head = (b * p.S * p.Hkv + h / (p.H / p.Hkv)) * p.D4;

  var chunk: array<vec4f, CHUNK>;
  for (var start = 0u; start < keys; start += CHUNK) {
    let count = min(CHUNK, keys - start);
    for (var j = 0u; j < count; j += 2u) {
      let key = start + vec2u(j, j + 1u);
      let place = vec2u(head) + min(key, vec2u(keys - 1u)) * stride;
      var s0 = vec4f();
      var s1 = vec4f();
      var dp0 = vec4f();
      var dp1 = vec4f();
      for (var d = 0u; d < p.D4; d++) {
        let q0 = q[at.x + d];
        let q1 = q[at.y + d];
        let q2 = q[at.z + d];
        let q3 = q[at.w + d];
        s0 = dots(s0, q0, q1, q2, q3, k[place.x + d]);
        s1 = dots(s1, q0, q1, q2, q3, k[place.y + d]);
        let g0 = dout[at.x + d];
        let g1 = dout[at.y + d];
        let g2 = dout[at.z + d];
        let g3 = dout[at.w + d];
        dp0 = dots(dp0, g0, g1, g2, g3, v[place.x + d]);
        dp1 = dots(dp1, g0, g1, g2, g3, v[place.y + d]);
      }
      chunk[j] = select(vec4f(), exp(fma(s0, vec4f(p.scale), -lse)) * (dp0 - delta) * p.scale, vec4u(key.x) < visible);
      chunk[j + 1u] = select(vec4f(), exp(fma(s1, vec4f(p.scale), -lse)) * (dp1 - delta) * p.scale, vec4u(key.y) < visible);
    }
    for (var d = 0u; d < p.D4; d++) {
      var a0 = vec4f();
      var a1 = vec4f();
      var a2 = vec4f();
      var a3 = vec4f();
      if (start > 0u) {
        a0 = dq[at.x + d];
        if (t + 1u < length) { a1 = dq[at.y + d]; }
        if (t + 2u < length) { a2 = dq[at.z + d]; }
        if (t + 3u < length) { a3 = dq[at.w + d]; }
      }
      var place = head + start * stride + d;
      for (var j = 0u; j < count; j++) {
        let ds = chunk[j];
        let key = k[place];
        a0 = fma(vec4f(ds.x), key, a0);
        a1 = fma(vec4f(ds.y), key, a1);
        a2 = fma(vec4f(ds.z), key, a2);
        a3 = fma(vec4f(ds.w), key, a3);
        place += stride;
      }
      dq[at.x + d] = a0;
      if (t + 1u < length) { dq[at.y + d] = a1; }
      if (t + 2u < length) { dq[at.z + d] = a2; }
      if (t + 3u < length) { dq[at.w + d] = a3; }
    }
  }
}
