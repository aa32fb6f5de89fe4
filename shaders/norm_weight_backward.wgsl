alias pack = f32; const OFFSETS = 0.0; fn total(v: pack) -> f32 { return v; } fn greatest(v: pack) -> f32 { return v; }
// dweight[s, c] = Σ over the rows k of segment s of dy[k, c] x̂[k, c], where x̂ = (h − μ_k) r_k; dbias[s, c] = Σ dy[k, c].
//
// h, dy: [rows, C]; stats: [rows, 2] holds (μ, r); dweight, dbias: [segments, C], dbias with LAYER = 1 only. Segment s
// covers `segment` rows. One invocation computes one pack of columns of one segment, one workgroup WG neighbouring packs.
// Elements are taken in packs of one or four: see src/ops/packs.ts.
override WG: u32 = 64u;
override LAYER: u32 = 0u;

struct Params { rows: u32, packs: u32, segment: u32 }
@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> h: array<pack>;
@group(0) @binding(2) var<storage, read> dy: array<pack>;
@group(0) @binding(3) var<storage, read> stats: array<f32>;
@group(0) @binding(4) var<storage, read_write> dweight: array<pack>;
@group(0) @binding(5) var<storage, read_write> dbias: array<pack>;

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) w: vec3u, @builtin(local_invocation_index) l: u32) {
  let c = w.x * WG + l;
  if (c >= p.packs) { return; }
  let end = min(p.rows, (w.y + 1u) * p.segment);
  var dw = pack();
  var db = pack();
  for (var k = w.y * p.segment; k < end; k++) {
    let g = dy[k * p.packs + c];
    dw = fma(g * stats[2u * k + 1u], h[k * p.packs + c] - stats[2u * k], dw);
    if (LAYER == 1u) { db += g; }
  }
  dweight[w.y * p.packs + c] = dw;
  if (LAYER == 1u) { dbias[w.y * p.packs + c] = db; }
}
