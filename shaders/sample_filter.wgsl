// What is left of each row of logits: repetition penalty, then top-k and top-p as one lower bound on the logits.
//
//   y[v] = x[v] · penalty where x[v] < 0, else x[v] / penalty, for tokens v that the row has seen; y[v] = x[v] for others
//   top-k: y[v] ≥ the k-th largest;  top-p: Σ of the probabilities above v's, among those of top-k, is < p.
// Either keeps all tokens of equal logit or none. The bound is found exactly, three bits of it in each pass over the row.
//
// logits: [B, V]; settings: [B, 7] as in sample_settings.wgsl; seen: [B, ⌈V/32⌉] bits.
// rows: [B, 4] receives max x, max y, the bound and 1 / penalty. One workgroup filters one row.
override WG: u32 = 64u;

struct Params { B: u32, V: u32 }
@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> logits: array<f32>;
@group(0) @binding(2) var<storage, read> settings: array<u32>;
@group(0) @binding(3) var<storage, read> seen: array<u32>;
@group(0) @binding(4) var<storage, read_write> rows: array<vec4f>;

const LOWEST = -3.4028234e38;

struct Row { b: u32, temperature: f32, penalty: f32, inverse: f32, y_max: f32 }

struct Pair { a: vec4f, b: vec4f }

var<workgroup> part: array<Pair, WG>;

fn joined(x: Pair, y: Pair, largest: bool) -> Pair {
  return Pair(select(x.a + y.a, max(x.a, y.a), largest), x.b + y.b);
}

// Sums, or with `largest` maxima, over the workgroup, for every invocation: a tree down to eight parts, then a loop over
// those, because barriers are what takes time on software adapters.
fn join(own: Pair, l: u32, largest: bool) -> Pair {
  workgroupBarrier();
  part[l] = own;
  workgroupBarrier();
  for (var half = WG / 2u; half >= 8u; half /= 2u) {
    if (l < half) { part[l] = joined(part[l], part[l + half], largest); }
    workgroupBarrier();
  }
  var all = part[0];
  for (var i = 1u; i < min(WG, 8u); i++) { all = joined(all, part[i], largest); }
  return all;
}

// By a product with 1 / penalty, which every kernel rounds alike, unlike a quotient.
fn penalised(r: Row, v: u32) -> f32 {
  let x = logits[r.b * p.V + v];
  if (r.penalty == 1.0 || ((seen[r.b * ((p.V + 31u) / 32u) + v / 32u] >> (v % 32u)) & 1u) == 0u) { return x; }
  return x * select(r.inverse, r.penalty, x < 0.0);
}

// Maps f32 to u32 in the same order.
fn key_of(y: f32) -> u32 {
  let bits = bitcast<u32>(y);
  return bits ^ select(0x80000000u, 0xffffffffu, bits >= 0x80000000u);
}

fn value_of(key: u32) -> f32 { return bitcast<f32>(key ^ select(0xffffffffu, 0x80000000u, key >= 0x80000000u)); }

// The largest bound t with Σ weight[v] over y[v] ≥ t reaching k (each weight 1), or for k = 0 reaching `share` of the
// probability above `low`.
fn search(r: Row, l: u32, low: f32, k: f32, share: f32) -> f32 {
  var found = 0u;
  var wanted = k;
  for (var turn = 0u; turn < 11u; turn++) {
    let shift = vec4u(30u - 3u * turn);
    let bound_a = found + (vec4u(1u, 2u, 3u, 4u) << shift);
    let bound_b = found + (vec4u(5u, 6u, 7u, 7u) << shift);
    var a = vec4f(0.0);
    var c = vec4f(0.0);
    for (var v = l; v < p.V; v += WG) {
      let y = penalised(r, v);
      var weight = 1.0;
      if (k == 0.0) { weight = select(0.0, exp((y - r.y_max) / r.temperature), y >= low); }
      let key = vec4u(key_of(y));
      a += select(vec4f(0.0), vec4f(weight), key >= bound_a);
      c += select(vec4f(0.0), vec4f(weight), key >= bound_b);
    }
    let sums = join(Pair(a, c), l, false);
    a = sums.a;
    c = sums.b;
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
  let k = settings[7u * b + 1u];
  let top_p = bitcast<f32>(settings[7u * b + 2u]);
  let penalty = bitcast<f32>(settings[7u * b + 4u]);
  var r = Row(b, bitcast<f32>(settings[7u * b]), penalty, 1.0 / penalty, 0.0);
  var most = vec2f(LOWEST);
  for (var v = l; v < p.V; v += WG) { most = max(most, vec2f(logits[b * p.V + v], penalised(r, v))); }
  most = join(Pair(vec4f(most, 0.0, 0.0), vec4f(0.0)), l, true).a.xy;
  r.y_max = most.y;
  var low = LOWEST;
  if (settings[7u * b] != 0u) {
    if (k > 0u && k < p.V) { low = search(r, l, low, f32(k), 0.0); }
    if (top_p < 1.0) { low = max(low, search(r, l, low, 0.0, top_p)); }
  }
  if (l == 0u) { rows[b] = vec4f(most, low, r.inverse); }
}
