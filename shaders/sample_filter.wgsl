// What is left of each row of logits: repetition penalty, then top-k and top-p as one lower bound on the logits.
//
//   y[v] = x[v] · penalty where x[v] < 0, else x[v] / penalty, for tokens v that the row has seen; y[v] = x[v] for others
//   top-k: y[v] ≥ the k-th largest;  top-p: Σ of the probabilities above v's, among those of top-k, is < p.
// Either keeps all tokens of equal logit or none. The bound is found exactly, three bits of it in each pass over the row.
//
// logits: [B, V]; temperature, topK, topP, minP, penalty: [B]; seen: [B, ⌈V/32⌉] bits.
// rows: [B, 7] receives max x, max y, the bound, temperature, minP, 1 / penalty, penalty. One workgroup filters one row.
override WG: u32 = 64u;

struct Params { B: u32, V: u32 }
@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> logits: array<f32>;
@group(0) @binding(2) var<storage, read> temperature: array<f32>;
@group(0) @binding(3) var<storage, read> topK: array<u32>;
@group(0) @binding(4) var<storage, read> topP: array<f32>;
@group(0) @binding(5) var<storage, read> minP: array<f32>;
@group(0) @binding(6) var<storage, read> penalty: array<f32>;
@group(0) @binding(7) var<storage, read> seen: array<u32>;
@group(0) @binding(8) var<storage, read_write> rows: array<f32>;

const LOWEST = -3.4028234e38;

var<workgroup> part_a: array<vec4f, WG>;
var<workgroup> part_b: array<vec4f, WG>;

// Sums, or with `largest` maxima, over the workgroup; the result is in part_a[0] and part_b[0].
fn join(a: vec4f, b: vec4f, l: u32, largest: bool) {
  workgroupBarrier();
  part_a[l] = a;
  part_b[l] = b;
  for (var half = WG / 2u; half > 0u; half /= 2u) {
    workgroupBarrier();
    if (l < half) {
      part_a[l] = select(part_a[l] + part_a[l + half], max(part_a[l], part_a[l + half]), largest);
      part_b[l] += part_b[l + half];
    }
  }
  workgroupBarrier();
}

// A product by 1 / penalty, which every kernel rounds alike, unlike a quotient.
fn penalised(b: u32, v: u32, inverse: f32) -> f32 {
  let x = logits[b * p.V + v];
  if (inverse == 1.0 || (seen[b * ((p.V + 31u) / 32u) + v / 32u] >> (v % 32u) & 1u) == 0u) { return x; }
  return x * select(inverse, penalty[b], x < 0.0);
}

// Maps f32 to u32 in the same order.
fn key_of(y: f32) -> u32 {
  let bits = bitcast<u32>(y);
  return bits ^ select(0x80000000u, 0xffffffffu, bits >= 0x80000000u);
}

fn value_of(key: u32) -> f32 { return bitcast<f32>(key ^ select(0xffffffffu, 0x80000000u, key >= 0x80000000u)); }

// The largest bound t with Σ weight[v] over y[v] ≥ t reaching k (each weight 1) or `share` of the weight above `low`.
fn search(b: u32, l: u32, y_max: f32, inverse: f32, low: f32, k: f32, share: f32) -> f32 {
  var found = 0u;
  var wanted = k;
  for (var turn = 0u; turn < 11u; turn++) {
    let shift = vec4u(30u - 3u * turn);
    let bound_a = found + (vec4u(1u, 2u, 3u, 4u) << shift);
    let bound_b = found + (vec4u(5u, 6u, 7u, 7u) << shift);
    var a = vec4f(0.0);
    var c = vec4f(0.0);
    for (var v = l; v < p.V; v += WG) {
      let y = penalised(b, v, inverse);
      var weight = 1.0;
      if (k == 0.0) { weight = select(0.0, exp((y - y_max) / temperature[b]), y >= low); }
      let key = vec4u(key_of(y));
      a += select(vec4f(0.0), vec4f(weight), key >= bound_a);
      c += select(vec4f(0.0), vec4f(weight), key >= bound_b);
    }
    join(a, c, l, false);
    a = part_a[0];
    c = part_b[0];
    if (turn == 0u) {
      // Only two bits are left above the first shift: bounds from the fourth on wrap around, the fourth to 0.
      if (k == 0.0) { wanted = max(share * a.w, 1e-30); }
      a.w = 0.0;
      c = vec4f(0.0);
    }
    let reached = dot(select(vec4f(0.0), vec4f(1.0), a >= vec4f(wanted)), vec4f(1.0)) +
      dot(select(vec3f(0.0), vec3f(1.0), c.xyz >= vec3f(wanted)), vec3f(1.0));
    found += u32(reached) << shift.x;
  }
  return value_of(found);
}

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) w: vec3u, @builtin(num_workgroups) count: vec3u, @builtin(local_invocation_index) l: u32) {
  let b = w.y * count.x + w.x;
  if (b >= p.B) { return; }
  let inverse = 1.0 / penalty[b];
  var most = vec2f(LOWEST);
  for (var v = l; v < p.V; v += WG) { most = max(most, vec2f(logits[b * p.V + v], penalised(b, v, inverse))); }
  join(vec4f(most, 0.0, 0.0), vec4f(0.0), l, true);
  most = part_a[0].xy;
  var low = LOWEST;
  if (temperature[b] > 0.0) {
    if (topK[b] > 0u && topK[b] < p.V) { low = search(b, l, most.y, inverse, low, f32(topK[b]), 0.0); }
    if (topP[b] < 1.0) { low = max(low, search(b, l, most.y, inverse, low, 0.0, topP[b])); }
  }
  if (l > 0u) { return; }
  let row = array<f32, 7>(most.x, most.y, low, temperature[b], min(minP[b], 1.0), inverse, penalty[b]);
  for (var i = 0u; i < 7u; i++) { rows[7u * b + i] = row[i]; }
}
