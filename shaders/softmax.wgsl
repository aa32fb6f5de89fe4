alias pack = f32; const OFFSETS = 0.0; fn total(v: pack) -> f32 { return v; } fn greatest(v: pack) -> f32 { return v; }
// y = exp(x − max x) / Σ exp(x − max x), row by row; with LOG = 1 its logarithm, x − max x − log Σ exp(x − max x).
//
// x, y: [rows, C]. LANES neighbouring invocations share a row; one workgroup computes WG / LANES rows.
// Elements are taken in packs of one or four: see src/ops/packs.ts.
override WG: u32 = 64u;
override LANES: u32 = 16u;
override LOG: u32 = 0u;

struct Params { rows: u32, packs: u32 }
@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> x: array<pack>;
@group(0) @binding(2) var<storage, read_write> y: array<pack>;

var<workgroup> part: array<f32, WG>;

fn join(a: f32, b: f32, largest: bool) -> f32 { return select(a + b, max(a, b), largest); }

// The sum or the maximum of v over the lanes of a row.
fn row_join(v: f32, largest: bool, l: u32) -> f32 {
  part[l] = v;
  for (var half = LANES / 2u; half > 0u; half /= 2u) {
    workgroupBarrier();
    if (l % LANES < half) { part[l] = join(part[l], part[l + half], largest); }
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
  var most = pack(-3.4028234e38);
  for (var c = lane; c < p.packs; c += LANES) { most = max(most, x[start + c]); }
  let largest = row_join(greatest(most), true, l);
  var sums = pack();
  for (var c = lane; c < p.packs; c += LANES) { sums += exp(x[start + c] - largest); }
  let sum = row_join(total(sums), false, l);
  if (row >= p.rows) { return; }
  let log_sum = log(sum);
  for (var c = lane; c < p.packs; c += LANES) {
    let d = x[start + c] - largest;
    if (LOG == 1u) { y[start + c] = d - log_sum; } else { y[start + c] = exp(d) / sum; }
  }
}
