// dv[b, s, g] = Σ P dout[b, t, h] and dk[b, s, g] = scale · Σ dS q[b, t, h], over the heads h that share g and the queries t
// that see key s; P and dS as in attention_query_backward.wgsl. Dao et al. 2022, arXiv:2205.14135, algorithm 4.
//
// q, dout: [B, T, H, D]; k, v, dk, dv: [B, S, Hkv, D]; D in vec4 (D4); stats: [B, T, H, 4] = (lse, Δ, visible keys, 0). One
// invocation computes four neighbouring keys of one head, head by head and a chunk of queries at a time: first P and dS
// (one vec4 a query each), then their part of dk and dv, which are kept in memory, so that D has no bound.
override WG: u32 = 64u;

const CHUNK = 32u;

struct Params { tasks: u32, blocks: u32, T: u32, S: u32, H: u32, Hkv: u32, D4: u32, scale: f32 }
@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> q: array<vec4f>;
@group(0) @binding(2) var<storage, read> k: array<vec4f>;
@group(0) @binding(3) var<storage, read> v: array<vec4f>;
@group(0) @binding(4) var<storage, read> dout: array<vec4f>;
@group(0) @binding(5) var<storage, read> stats: array<vec4f>;
@group(0) @binding(6) var<storage, read_write> dk: array<vec4f>;
@group(0) @binding(7) var<storage, read_write> dv: array<vec4f>;

/** acc[i] += a_i · b for four keys a_i. */
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
  let s = 4u * (task % p.blocks);
  let g = (task / p.blocks) % p.Hkv;
  let b = task / (p.blocks * p.Hkv);
  let stop = min(s + 4u, p.S);
  let key = vec4u(s, s + 1u, s + 2u, s + 3u);
  // Keys past the end stand in for the last one and are not written.
  let at = ((vec4u(b * p.S) + min(key, vec4u(p.S - 1u))) * p.Hkv + g) * p.D4;
  for (var i = 0u; i < stop - s; i++) {
    for (var d = 0u; d < p.D4; d++) {
      dk[at[i] + d] = vec4f();
      dv[at[i] + d] = vec4f();
    }
  }

  // The row's query 0 sees `seen` keys, each later one a key more, until the first one that sees none.
  let seen = u32(stats[b * p.T * p.H].z);
  if (seen == 0u) { return; }
  let earliest = max(s + 1u, seen) - seen;
  let step = p.H * p.D4;
  let group = p.H / p.Hkv;

  var weights: array<vec4f, CHUNK>;
  var slopes: array<vec4f, CHUNK>;
  for (var h = g * group; h < (g + 1u) * group; h++) {
    let row = b * p.T * p.H + h;
    for (var start = earliest; start < p.T; start += CHUNK) {
      var count = 0u;
      for (; count < min(CHUNK, p.T - start); count++) {
        let query = row + (start + count) * p.H;
        let st = stats[query];
        if (st.z == 0.0) { break; }
        var s0 = vec4f();
        var dp = vec4f();
        for (var d = 0u; d < p.D4; d++) {
          s0 = dots(s0, k[at.x + d], k[at.y + d], k[at.z + d], k[at.w + d], q[query * p.D4 + d]);
          dp = dots(dp, v[at.x + d], v[at.y + d], v[at.z + d], v[at.w + d], dout[query * p.D4 + d]);
        }
        let sees = key < vec4u(u32(st.z));
        let weight = exp(fma(s0, vec4f(p.scale), vec4f(-st.x)));
        weights[count] = select(vec4f(), weight, sees);
        slopes[count] = select(vec4f(), weight * (dp - st.y) * p.scale, sees);
      }
      if (count == 0u) { break; }
      for (var d = 0u; d < p.D4; d++) {
        var k0 = dk[at.x + d];
        var k1 = vec4f();
        var k2 = vec4f();
        var k3 = vec4f();
        var v0 = dv[at.x + d];
        var v1 = vec4f();
        var v2 = vec4f();
        var v3 = vec4f();
        if (s + 1u < stop) { k1 = dk[at.y + d]; v1 = dv[at.y + d]; }
        if (s + 2u < stop) { k2 = dk[at.z + d]; v2 = dv[at.z + d]; }
        if (s + 3u < stop) { k3 = dk[at.w + d]; v3 = dv[at.w + d]; }
        var place = (row + start * p.H) * p.D4 + d;
        for (var j = 0u; j < count; j++) {
          let weight = weights[j];
          let slope = slopes[j];
          let dy = dout[place];
          let x = q[place];
          v0 = fma(vec4f(weight.x), dy, v0);
          v1 = fma(vec4f(weight.y), dy, v1);
          v2 = fma(vec4f(weight.z), dy, v2);
          v3 = fma(vec4f(weight.w), dy, v3);
          k0 = fma(vec4f(slope.x), x, k0);
          k1 = fma(vec4f(slope.y), x, k1);
          k2 = fma(vec4f(slope.z), x, k2);
          k3 = fma(vec4f(slope.w), x, k3);
          place += step;
        }
        dk[at.x + d] = k0;
        dv[at.x + d] = v0;
        if (s + 1u < stop) { dk[at.y + d] = k1; dv[at.y + d] = v1; }
        if (s + 2u < stop) { dk[at.z + d] = k2; dv[at.z + d] = v2; }
        if (s + 3u < stop) { dk[at.w + d] = k3; dv[at.w + d] = v3; }
      }
    }
  }
}
