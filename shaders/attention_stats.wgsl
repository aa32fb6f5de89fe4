// What the backward pass of attention needs of each query, as one vec4: (lse, Δ, visible keys, 0), where
// Δ[b, t, h] = Σ_d dout · out − dlse makes the gradient of a score P ∘ (dout · v − Δ): Dao et al. 2022, arXiv:2205.14135,
// appendix B.2, with the gradient of lse added. Query t sees min(offsets[b] + t + 1, S) keys, or none from lengths[b] on.
//
// out, dout: [B, T, H, D], D in vec4 (D4); lse, dlse: [B, T, H], dlse all 0 unless DLSE = 1; offsets: [B] when OFFSETS = 1,
// else all 0; lengths: [B] when LENGTHS = 1, else all T; stats: [B, T, H, 4]. One invocation a query, WG a workgroup.
override WG: u32 = 64u;
override DLSE: u32 = 0u;
override OFFSETS: u32 = 0u;
override LENGTHS: u32 = 0u;

struct Params { queries: u32, T: u32, S: u32, H: u32, D4: u32 }
@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> out: array<vec4f>;
@group(0) @binding(2) var<storage, read> dout: array<vec4f>;
@group(0) @binding(3) var<storage, read> lse: array<f32>;
@group(0) @binding(4) var<storage, read> dlse: array<f32>;
@group(0) @binding(5) var<storage, read> offsets: array<u32>;
@group(0) @binding(6) var<storage, read> lengths: array<u32>;
@group(0) @binding(7) var<storage, read_write> stats: array<vec4f>;

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) w: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) l: u32) {
  let query = (w.y * groups.x + w.x) * WG + l;
  if (query >= p.queries) { return; }
  let t = (query / p.H) % p.T;
  let b = query / (p.H * p.T);
  if (LENGTHS == 1u) {
    if (t >= lengths[b]) {
      stats[query] = vec4f();
      return;
    }
  }
  var first = 0u;
  if (OFFSETS == 1u) { first = min(offsets[b], p.S); }
  var acc = vec4f();
  for (var d = query * p.D4; d < (query + 1u) * p.D4; d++) { acc = fma(dout[d], out[d], acc); }
  var delta = (acc.x + acc.y) + (acc.z + acc.w);
  if (DLSE == 1u) { delta -= dlse[query]; }
  stats[query] = vec4f(lse[query], delta, f32(min(first + t + 1u, p.S)), 0.0);
}
