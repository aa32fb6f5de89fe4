// settings[b] = the bits of everything that tells row b how to draw: one buffer, where seven would pass the limit of eight
// storage buffers in the kernels that read them.
//
// temperature, topK, topP, minP, penalty, row: [B]; seed: [1] or [B]; settings: [B, 7], seed before row.
// One invocation packs one row.
override WG: u32 = 64u;

struct Params { B: u32, seedStride: u32 }
@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> temperature: array<u32>;
@group(0) @binding(2) var<storage, read> topK: array<u32>;
@group(0) @binding(3) var<storage, read> topP: array<u32>;
@group(0) @binding(4) var<storage, read> minP: array<u32>;
@group(0) @binding(5) var<storage, read> penalty: array<u32>;
@group(0) @binding(6) var<storage, read> seed: array<u32>;
@group(0) @binding(7) var<storage, read> row: array<u32>;
@group(0) @binding(8) var<storage, read_write> settings: array<u32>;

@compute @workgroup_size(WG)
fn main(@builtin(global_invocation_id) g: vec3u) {
  let b = g.x;
  if (b >= p.B) { return; }
  settings[7u * b] = temperature[b];
  settings[7u * b + 1u] = topK[b];
  settings[7u * b + 2u] = topP[b];
  settings[7u * b + 3u] = minP[b];
  settings[7u * b + 4u] = penalty[b];
  settings[7u * b + 5u] = seed[b * p.seedStride];
  settings[7u * b + 6u] = row[b];
}
