alias pack = f32; const OFFSETS = 0.0; fn total(v: pack) -> f32 { return v; } fn greatest(v: pack) -> f32 { return v; }
// dx = r (g − mean(g) − x̂ ⊙ mean(g ⊙ x̂)) (+ dh, with ADD = 1), row by row, where g = dy ⊙ weight, x̂ = (h − μ) r and
// r = 1 / sqrt(mean((h − μ)²) + eps). With LAYER = 0 (RMS norm) μ = 0 and the mean(g) term is absent.
//
// h, dy, dh, dx: [rows, C]; weight: [C]; stats: [rows, 2] receives (μ, r) for the weight's gradient.
// LANES neighbouring invocations share a row; one workgroup computes WG / LANES rows.
// Elements are taken in packs of one or four: see src/ops/packs.ts.
override WG: u32 = 64u;
override LANES: u32 = 16u;
override LAYER: u32 = 0u;
override ADD: u32 = 0u;

struct Params { rows: u32, packs: u32, C: u32, eps: f32 }
@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> h: array<pack>;
@group(0) @binding(2) var<storage, read> weight: array<pack>;
@group(0) @binding(3) var<storage, read> dy: array<pack>;
@group(0) @binding(4) var<storage, read> dh: array<pack>;
@group(0) @binding(5) var<storage, read_write> dx: array<pack>;
@group(0) @binding(6) var<storage, read_write> stats: array<f32>;

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

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) w: vec3u, @builtin(num_workgroups) count: vec3u, @builtin(local_invocation_index) l: u32) {
  let row = (w.y * count.x + w.x) * (WG / LANES) + l / LANES;
  let lane = l % LANES;
  // Lanes past the last row read it again and write nothing: barriers need all of them.
  let start = min(row, p.rows - 1u) * p.packs;
  let size = f32(p.C);
  var mu = 0.0;
  if (LAYER == 1u) {
    var sum = pack();
    for (var c = lane; c < p.packs; c += LANES) { sum += h[start + c]; }
    mu = row_sum(total(sum), l) / size;
  }
  var squares = pack();
  var sum_g = pack();
  var sum_gd = pack();
  for (var c = lane; c < p.packs; c += LANES) {
    let d = h[start + c] - mu;
    let g = dy[start + c] * weight[c];
    squares = fma(d, d, squares);
    sum_gd = fma(g, d, sum_gd);
    if (LAYER == 1u) { sum_g += g; }
  }
  let r = 1.0 / sqrt(row_sum(total(squares), l) / size + p.eps);
  let slope = row_sum(total(sum_gd), l) * r * r / size;
  var mean_g = 0.0;
  if (LAYER == 1u) { mean_g = row_sum(total(sum_g), l) / size; }
  if (row >= p.rows) { return; }
  for (var c = lane; c < p.packs; c += LANES) {
    let i = start + c;
    var out = r * (dy[i] * weight[c] - mean_g - (h[i] - mu) * slope);
    if (ADD == 1u) { out += dh[i]; }
    dx[i] = out;
  }
  if (lane == 0u) {
    stats[2u * row] = mu;
    stats[2u * row + 1u] = r;
  }
}
