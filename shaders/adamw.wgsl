// AdamW (Loshchilov & Hutter 2019, arXiv:1711.05101, Alg. 2) with PyTorch's placement of the learning rate and of ε:
//   g ← g · min(1, maxGradNorm / (norm + 1e-6))
//   θ ← θ (1 − lr · decay)                          for elements before decayEnd
//   m ← m + (1 − β1)(g − m);  v ← β2 v + (1 − β2) g²
//   θ ← θ − lr / c1 · m / (√v / √c2 + ε)            c = 1 − β^t
// Nothing is written when `norm` is not finite.
//
// theta, m, v, grad: [n] vec4f; clock: [c1, c2, t]; norm, maxGradNorm: [] as bits, since compilers may assume that no
// float is NaN or infinite; learningRate: []. One workgroup updates WG vectors, one an invocation.
override WG: u32 = 64u;

struct Params { n: u32, decayEnd: u32, rate1: f32, beta2: f32, rate2: f32, eps: f32, decay: f32 } // rate = 1 − β
@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> grad: array<vec4f>;
@group(0) @binding(2) var<storage, read> clock: array<f32>;
@group(0) @binding(3) var<storage, read> norm: array<u32>;
@group(0) @binding(4) var<storage, read> learningRate: array<f32>;
@group(0) @binding(5) var<storage, read> maxGradNorm: array<u32>;
@group(0) @binding(6) var<storage, read_write> theta: array<vec4f>;
@group(0) @binding(7) var<storage, read_write> m: array<vec4f>;
@group(0) @binding(8) var<storage, read_write> v: array<vec4f>;

fn finite(bits: u32) -> bool { return (bits & 0x7f800000u) != 0x7f800000u; }

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) w: vec3u, @builtin(num_workgroups) count: vec3u, @builtin(local_invocation_index) l: u32) {
  let i = (w.y * count.x + w.x) * WG + l;
  if (i >= p.n || !finite(norm[0])) { return; }
  let lr = learningRate[0];
  let limit = maxGradNorm[0];
  var g = grad[i];
  if (limit != 0u && finite(limit)) { g *= min(1.0, bitcast<f32>(limit) / (bitcast<f32>(norm[0]) + 1e-6)); }
  let decayed = 4u * i + vec4u(0u, 1u, 2u, 3u) < vec4u(p.decayEnd);
  let kept = theta[i] * select(vec4f(1.0), vec4f(1.0 - lr * p.decay), decayed);
  let first = fma(vec4f(p.rate1), g - m[i], m[i]);
  let second = fma(p.rate2 * g, g, p.beta2 * v[i]);
  m[i] = first;
  v[i] = second;
  theta[i] = kept - (lr / clock[0]) * first / (sqrt(second) / sqrt(clock[1]) + p.eps);
}
