alias pack = f32; const OFFSETS = 0.0; fn total(v: pack) -> f32 { return v; } fn greatest(v: pack) -> f32 { return v; }
// Folds one chunk of logits into what is kept of each row: with m = max, s = Σ exp(logit − m),
// e = Σ exp(logit − m) (logit − m), the target's logit and the lowest index of the maximum. After the last chunk:
//   lse = m + log s, logp = target's logit − lse, entropy = log s − e / s, correct = (argmax = target).
//
// logits: [N, n], the columns start … start + n of the vocabulary; targets, logp, entropy, correct, lse: [N];
// state: [N, 5] = (m, s, e, target's logit, argmax). Indices are f32 there, which is exact below 2^24.
// LANES neighbouring invocations share a row; one workgroup folds WG / LANES rows.
// Elements are taken in packs of one or four: see src/ops/packs.ts.
override WG: u32 = 64u;
override LANES: u32 = 8u;
override FIRST: u32 = 0u;
override LAST: u32 = 0u;

struct Params { rows: u32, packs: u32, n: u32, start: u32 }
@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> logits: array<pack>;
@group(0) @binding(2) var<storage, read> targets: array<u32>;
@group(0) @binding(3) var<storage, read_write> state: array<f32>;
@group(0) @binding(4) var<storage, read_write> logp: array<f32>;
@group(0) @binding(5) var<storage, read_write> entropy: array<f32>;
@group(0) @binding(6) var<storage, read_write> correct: array<f32>;
@group(0) @binding(7) var<storage, read_write> lse: array<f32>;

const LOWEST = -3.4028234e38;

// Each lane's maximum and then its (s, e, −argmax, target's logit).
var<workgroup> part: array<vec4f, WG>;

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) w: vec3u, @builtin(num_workgroups) count: vec3u, @builtin(local_invocation_index) l: u32) {
  let group_row = (w.y * count.x + w.x) * (WG / LANES) + l / LANES;
  // Lanes past the last row read it again and write nothing: barriers need all of them.
  let row = min(group_row, p.rows - 1u);
  let lane = l % LANES;
  let first = row * p.packs;

  var most = pack(LOWEST);
  for (var c = lane; c < p.packs; c += LANES) { most = max(most, logits[first + c]); }
  part[l].x = greatest(most);
  for (var half = LANES / 2u; half > 0u; half /= 2u) {
    workgroupBarrier();
    if (lane < half) { part[l].x = max(part[l].x, part[l + half].x); }
  }
  workgroupBarrier();
  let chunk_max = part[l - lane].x;
  workgroupBarrier();

  let b = 5u * row;
  var before = LOWEST;
  if (FIRST == 0u) { before = state[b]; }
  let m = max(chunk_max, before);
  let t = f32(targets[row]);
  var sums = pack();
  var slopes = pack();
  var at_max = pack(LOWEST);
  var at_target = pack(LOWEST);
  for (var c = lane; c < p.packs; c += LANES) {
    let v = logits[first + c];
    let x = exp(v - m);
    sums += x;
    slopes = fma(x, v - m, slopes);
    let index = pack(f32(p.start + c * (p.n / p.packs))) + OFFSETS;
    at_max = max(at_max, select(pack(LOWEST), -index, v == pack(chunk_max)));
    at_target = select(at_target, v, index == pack(t));
  }
  part[l] = vec4f(total(sums), total(slopes), greatest(at_max), greatest(at_target));
  for (var half = LANES / 2u; half > 0u; half /= 2u) {
    workgroupBarrier();
    if (lane < half) { part[l] = vec4f(part[l].xy + part[l + half].xy, max(part[l].zw, part[l + half].zw)); }
  }
  workgroupBarrier();
  if (lane != 0u || group_row >= p.rows) { return; }

  var s = part[l].x;
  var e = part[l].y;
  var argmax = -part[l].z;
  var target_logit = part[l].w;
  if (FIRST == 0u) {
    // Σ exp(logit − m) (logit − m) of what came before, from its sums relative to its own maximum.
    let scale = exp(before - m);
    s = fma(scale, state[b + 1u], s);
    e = fma(scale, fma(state[b + 1u], before - m, state[b + 2u]), e);
    target_logit = max(target_logit, state[b + 3u]);
    argmax = select(argmax, state[b + 4u], before >= chunk_max);
  }
  if (LAST == 1u) {
    lse[row] = m + log(s);
    logp[row] = target_logit - m - log(s);
    entropy[row] = log(s) - e / s;
    correct[row] = select(0.0, 1.0, argmax == t);
    return;
  }
  state[b] = m;
  state[b + 1u] = s;
  state[b + 2u] = e;
  state[b + 3u] = target_logit;
  state[b + 4u] = argmax;
}
