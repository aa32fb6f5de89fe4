alias pack = f32; const OFFSETS = 0.0; fn total(v: pack) -> f32 { return v; } fn greatest(v: pack) -> f32 { return v; }
// y = (h − μ) / sqrt(mean((h − μ)²) + eps) ⊙ weight (+ bias), row by row, where h = x or, with ADD = 1, x + residual.
//
// LAYER = 1: μ is the row's mean and the bias is added (layer norm); LAYER = 0: μ = 0 and no bias (RMS norm).
// x, residual, h, y: [rows, C]; weight, bias: [C]. h is written with ADD = 1 only.
// LANES neighbouring invocations share a row; one workgroup computes WG / LANES rows.
// Elements are taken in packs of one or four: see src/ops/packs.ts.
override WG: u32 = 64u;
override LANES: u32 = 16u;
override LAYER: u32 = 0u;
override ADD: u32 = 0u;

struct Params { rows: u32, packs: u32, C: u32, eps: f32 }
@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> x: array<pack>;
@group(0) @binding(2) var<storage, read> residual: array<pack>;
@group(0) @binding(3) var<storage, read> weight: array<pack>;
@group(0) @binding(4) var<storage, read> bias: array<pack>;
@group(0) @binding(5) var<storage, read_write> h: array<pack>;
@group(0) @binding(6) var<storage, read_write> y: array<pack>;

var<workgroup> part: array<f32, WG>;

// Σ of v over the lanes of a row.
fn row_sum(v: f32, l: u32) -> f32 {
  if (LANES == 1u) { return v; }
  part[l] = v;
  for (var half = LANES / 2u; half > 0u; half /= 2u) {
    workgroupBarrier();
    if (l % LANES < half) { part[l] += part[l + half]; }
  }
  workgroupBarrier();
  let total = part[l - l % LANES];
  workgroupBarrier();
  return total;
}

fn at(i: u32) -> pack {
  if (ADD == 1u) { return x[i] + residual[i]; }
  return x[i];
}

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) w: vec3u, @builtin(num_workgroups) count: vec3u, @builtin(local_invocation_index) l: u32) {
  let row = (w.y * count.x + w.x) * (WG / LANES) + l / LANES;
  let lane = l % LANES;
  // Lanes past the last row read it again and write nothing: barriers need all of them.
  let start = min(row, p.rows - 1u) * p.packs;
  var mu = 0.0;
  if (LAYER == 1u) {
    var sum = pack();
    for (var c = lane; c < p.packs; c += LANES) { sum += at(start + c); }
    mu = row_sum(total(sum), l) / f32(p.C);
  }
  var squares = pack();
  for (var c = lane; c < p.packs; c += LANES) {
    let d = at(start + c) - mu;
    squares = fma(d, d, squares);
  }
  let r = 1.0 / sqrt(row_sum(total(squares), l) / f32(p.C) + p.eps);
  if (row >= p.rows) { return; }
  for (var c = lane; c < p.packs; c += LANES) {
    let i = start + c;
    let v = at(i);
    if (ADD == 1u) { h[i] = v; }
    var out = (v - mu) * r * weight[c];
    if (LAYER == 1u) { out += bias[c]; }
    y[i] = out;
  }
}
