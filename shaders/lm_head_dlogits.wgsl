alias pack = f32; const OFFSETS = 0.0; fn total(v: pack) -> f32 { return v; } fn greatest(v: pack) -> f32 { return v; }
// Turns one chunk of logits, in place, into their gradient. With p = exp(logit − lse), H = entropy, 1 at the target:
//   dlogit = dlogp (1 − p) − dentropy p (log p + H) + dlse p.
// A row whose three gradients are 0 gives exact zeros, whatever its logits and target are.
//
// logits: [N, n], the columns start … start + n of the vocabulary, `packs` in all N rows; all others: [N].
// One invocation computes one pack, one workgroup WG neighbouring ones.
// Elements are taken in packs of one or four: see src/ops/packs.ts.
override WG: u32 = 64u;

struct Params { packs: u32, n: u32, per_row: u32, start: u32 }
@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> targets: array<u32>;
@group(0) @binding(2) var<storage, read> lse: array<f32>;
@group(0) @binding(3) var<storage, read> entropy: array<f32>;
@group(0) @binding(4) var<storage, read> dlogp: array<f32>;
@group(0) @binding(5) var<storage, read> dentropy: array<f32>;
@group(0) @binding(6) var<storage, read> dlse: array<f32>;
@group(0) @binding(7) var<storage, read_write> logits: array<pack>;

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) w: vec3u, @builtin(num_workgroups) count: vec3u, @builtin(local_invocation_index) l: u32) {
  let i = (w.y * count.x + w.x) * WG + l;
  if (i >= p.packs) { return; }
  let row = i / p.per_row;
  let g = dlogp[row];
  let h = dentropy[row];
  let z = dlse[row];
  if (g == 0.0 && h == 0.0 && z == 0.0) {
    logits[i] = pack();
    return;
  }
  let log_p = logits[i] - lse[row];
  let d = exp(log_p) * (z - g - h * (log_p + entropy[row]));
  let index = pack(f32(p.start + i % p.per_row * (p.n / p.per_row))) + OFFSETS;
  logits[i] = d + select(pack(), pack(g), index == pack(f32(targets[row])));
}
