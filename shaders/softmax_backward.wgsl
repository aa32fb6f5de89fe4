alias pack = f32; const OFFSETS = 0.0; fn total(v: pack) -> f32 { return v; } fn greatest(v: pack) -> f32 { return v; }
// dx = y ⊙ (dy − Σ dy ⊙ y) for y = softmax(x); with LOG = 1 dx = dy − exp(y) Σ dy for y = log softmax(x). Row by row.
//
// y, dy, dx: [rows, C]. LANES neighbouring invocations share a row; one workgroup computes WG / LANES rows.
// Elements are taken in packs of one or four: see src/ops/packs.ts.
override WG: u32 = 64u;
override LANES: u32 = 16u;
override LOG: u32 = 0u;

struct Params { rows: u32, packs: u32 }
@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> y: array<pack>;
@group(0) @binding(2) var<storage, read> dy: array<pack>;
@group(0) @binding(3) var<storage, read_write> dx: array<pack>;

var<workgroup> part: array<f32, WG>;

// Σ of v over the lanes of a row.
fn row_sum(v: f32, l: u32) -> f32 {
  part[l] = v;
  for (var half = LANES / 2u; half > 0u; half /= 2u) {
    workgroupBarrier();
    if (l % LANES < half) { part[l] += part[l + half]; }
  }
  workgroupBarrier();
  return part[l - l % LANES];
}

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) w: vec3u, @builtin(num_workgroups) count: vec3u, @builtin(local_invocation_index) l: u32) {
  let row = (w.y * count.x + w.x) * (WG / LANES) + l / LANES;
  let lane = l % LANES;
  // Lanes past the last row read it again and write nothing: barriers need all of them.
  let start = min(row, p.rows - 1u) * p.packs;
  var sums = pack();
  for (var c = lane; c < p.packs; c += LANES) {
    let i = start + c;
    if (LOG == 1u) { sums += dy[i]; } else { sums = fma(dy[i], y[i], sums); }
  }
  let sum = row_sum(total(sums), l);
  if (row >= p.rows) { return; }
  for (var c = lane; c < p.packs; c += LANES) {
    let i = start + c;
    if (LOG == 1u) { dx[i] = dy[i] - exp(y[i]) * sum; } else { dx[i] = y[i] * (dy[i] - sum); }
  }
}
