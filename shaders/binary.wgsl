alias pack = f32; const OFFSETS = 0.0; fn total(v: pack) -> f32 { return v; } fn greatest(v: pack) -> f32 { return v; }
// y[i] = f(a[ia(i)], b[ib(i)]), where f is chosen by OP (the table in src/ops/binary.ts).
//
// y: up to four axes of sizes d0..d3; a and b broadcast to it: their strides are 0 along repeated axes.
// With SAME = 1 all three have one layout, read in packs of elements; else packs are of one. One workgroup computes WG packs.
override WG: u32 = 64u;
override OP: u32 = 0u;
override SAME: u32 = 1u;

struct Params {
  packs: u32,
  d1: u32, d2: u32, d3: u32,
  a0: u32, a1: u32, a2: u32, a3: u32,
  b0: u32, b1: u32, b2: u32, b3: u32,
}
@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> a: array<pack>;
@group(0) @binding(2) var<storage, read> b: array<pack>;
@group(0) @binding(3) var<storage, read_write> y: array<pack>;

fn f(u: pack, v: pack) -> pack {
  switch (OP) {
    case 0u: { return u + v; }
    case 1u: { return u - v; }
    case 2u: { return u * v; }
    case 3u: { return u / v; }
    case 4u: { return max(u, v); }
    case 5u: { return min(u, v); }
    case 6u: { return select(pack(0.0), pack(1.0), u > v); }
    default: { return u; }
  }
}

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) w: vec3u, @builtin(num_workgroups) count: vec3u, @builtin(local_invocation_index) l: u32) {
  let i = (w.y * count.x + w.x) * WG + l;
  if (i >= p.packs) { return; }
  if (SAME == 1u) {
    y[i] = f(a[i], b[i]);
    return;
  }
  let i3 = i % p.d3;
  let i2 = (i / p.d3) % p.d2;
  let i1 = (i / (p.d3 * p.d2)) % p.d1;
  let i0 = i / (p.d3 * p.d2 * p.d1);
  y[i] = f(a[i0 * p.a0 + i1 * p.a1 + i2 * p.a2 + i3 * p.a3], b[i0 * p.b0 + i1 * p.b1 + i2 * p.b2 + i3 * p.b3]);
}
