// needs: common/rng.wgsl
// token = argmax over the kept v of (y[v] − max y) / temperature + G[v], with Gumbel noise G[v] = −log E, E = −log(1 − u):
// a draw from the softmax of what is kept (Gumbel 1954; Maddison et al. 2014, arXiv:1411.0030). At temperature 0, argmax y.
//
// u is Philox's under the key (seed, STREAM) at (⌊v/4⌋, position, row), lane v mod 4: no other row changes a row's draw.
// logits: [B, V]; settings: [B, 7] as in sample_settings.wgsl; rows: [B, 4] and y as in sample_filter.wgsl;
// seen: [B, ⌈V/32⌉] bits; position: [B].
// token: [B]; logp: [B] under the softmax of the raw logits; sampled_logp: [B] under the distribution drawn from.
// One workgroup draws for one row; an invocation takes four neighbouring tokens at a time. Ties go to the lowest token.
override WG: u32 = 64u;
override STREAM: u32 = 0u;

struct Params { B: u32, V: u32 }
@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> logits: array<f32>;
@group(0) @binding(2) var<storage, read> settings: array<u32>;
@group(0) @binding(3) var<storage, read> rows: array<vec4f>;
@group(0) @binding(4) var<storage, read> seen: array<u32>;
@group(0) @binding(5) var<storage, read> position: array<u32>;
@group(0) @binding(6) var<storage, read_write> token: array<u32>;
@group(0) @binding(7) var<storage, read_write> logp: array<f32>;
@group(0) @binding(8) var<storage, read_write> sampled_logp: array<f32>;

const LOWEST = -3.4028234e38;
const NONE = 0xffffffffu;

struct Part { score: f32, best: u32, sum_raw: f32, sum_kept: f32 }
var<workgroup> part: array<Part, WG>;

fn penalised(b: u32, v: u32, penalty: f32, inverse: f32) -> f32 {
  let x = logits[b * p.V + v];
  if (penalty == 1.0 || ((seen[b * ((p.V + 31u) / 32u) + v / 32u] >> (v % 32u)) & 1u) == 0u) { return x; }
  return x * select(inverse, penalty, x < 0.0);
}

// −log E for 32 random bits. The noise that wins has a small u, so u keeps all bits there and E = −log(1 − u) is a series.
fn gumbel(bits: u32) -> f32 {
  let u = (f32(select(bits, bits & 0xffffff00u, bits >= 0x1000000u)) + 0.5) * 2.3283064365386963e-10;
  let s = u / (2.0 - u);
  let s2 = s * s;
  let series = 2.0 * s * (1.0 + s2 * (0.33333333 + s2 * (0.2 + s2 * 0.14285714)));
  return -log(select(-log(1.0 - u), series, u < 0.25));
}

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) w: vec3u, @builtin(num_workgroups) count: vec3u, @builtin(local_invocation_index) l: u32) {
  let b = w.y * count.x + w.x;
  if (b >= p.B) { return; }
  let temperature = bitcast<f32>(settings[7u * b]);
  let min_p = min(1.0, bitcast<f32>(settings[7u * b + 3u]));
  let penalty = bitcast<f32>(settings[7u * b + 4u]);
  let key = vec2u(settings[7u * b + 5u], STREAM);
  let row = settings[7u * b + 6u];
  let x_max = rows[b].x;
  let y_max = rows[b].y;
  let low = rows[b].z;
  let inverse = rows[b].w;
  var own = Part(LOWEST, NONE, 0.0, 0.0);
  for (var first = 4u * l; first < p.V; first += 4u * WG) {
    var noise = vec4u(0u);
    var drawn = false;
    for (var j = 0u; j < 4u && first + j < p.V; j++) {
      let v = first + j;
      own.sum_raw += exp(logits[b * p.V + v] - x_max);
      let y = penalised(b, v, penalty, inverse);
      var score = y;
      if (temperature > 0.0) {
        score = (y - y_max) / temperature;
        let weight = exp(score);
        if (!(y >= low && weight >= min_p)) { continue; }
        own.sum_kept += weight;
        if (!drawn) { noise = philox(vec4u(first / 4u, position[b], row, 0u), key); }
        drawn = true;
        score += gumbel(noise[j]);
      }
      if (score > own.score) {
        own.score = score;
        own.best = v;
      }
    }
  }
  part[l] = own;
  for (var half = WG / 2u; half > 0u; half /= 2u) {
    workgroupBarrier();
    if (l < half) {
      let a = part[l];
      let c = part[l + half];
      let other = c.score > a.score || (c.score == a.score && c.best < a.best);
      part[l] = Part(select(a.score, c.score, other), select(a.best, c.best, other), a.sum_raw + c.sum_raw, a.sum_kept + c.sum_kept);
    }
  }
  if (l > 0u) { return; }
  // A row of NaN has no best token; 0 stands for it, with NaN as its log-probability.
  let best = select(part[0].best, 0u, part[0].best == NONE);
  token[b] = best;
  logp[b] = logits[b * p.V + best] - x_max - log(part[0].sum_raw);
  sampled_logp[b] = 0.0;
  if (temperature > 0.0) { sampled_logp[b] = (penalised(b, best, penalty, inverse) - y_max) / temperature - log(part[0].sum_kept); }
}
