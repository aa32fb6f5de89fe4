// One step of generation's bookkeeping, for rows that are not finished:
//   tokens[b, count] = sampled[b]; logps[b, count] = logp[b]; count += 1; position += 1;
//   finished = sampled is an end token, or count = N.
//
// state: four rows of `stride` u32: the last token, its position, count, finished. sampled, logp: [B].
// eos: [E] end tokens. tokens, logps: [B, N]. One invocation advances one row.
struct Params { B: u32, N: u32, E: u32, stride: u32 }
@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> sampled: array<u32>;
@group(0) @binding(2) var<storage, read> logp: array<f32>;
@group(0) @binding(3) var<storage, read> eos: array<u32>;
@group(0) @binding(4) var<storage, read_write> state: array<u32>;
@group(0) @binding(5) var<storage, read_write> tokens: array<u32>;
@group(0) @binding(6) var<storage, read_write> logps: array<f32>;

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) g: vec3u) {
  let b = g.x;
  if (b >= p.B || state[3u * p.stride + b] != 0u) { return; }
  let count = state[2u * p.stride + b];
  let token = sampled[b];
  tokens[b * p.N + count] = token;
  logps[b * p.N + count] = logp[b];
  var finished = count + 1u >= p.N;
  for (var e = 0u; e < p.E; e++) { finished = finished || token == eos[e]; }
  state[b] = token;
  state[p.stride + b] += 1u;
  state[2u * p.stride + b] = count + 1u;
  state[3u * p.stride + b] = u32(finished);
}
