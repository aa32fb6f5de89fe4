// seen[b] gains the bit of tokens[b], for rows that are not finished.
//
// tokens, finished: [B]; seen: [B, words] bits, token v at bit v mod 32 of word ⌊v/32⌋. One invocation marks one row.
override WG: u32 = 64u;

struct Params { B: u32, words: u32 }
@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> tokens: array<u32>;
@group(0) @binding(2) var<storage, read> finished: array<u32>;
@group(0) @binding(3) var<storage, read_write> seen: array<u32>;

@compute @workgroup_size(WG)
fn main(@builtin(global_invocation_id) g: vec3u) {
  let b = g.x;
  if (b >= p.B || finished[b] != 0u) { return; }
  seen[b * p.words + tokens[b] / 32u] |= 1u << (tokens[b] % 32u);
}
