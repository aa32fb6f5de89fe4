// Philox-4x32-10 (Salmon et al. 2011): four random u32 from a 128-bit counter under a 64-bit key; the bits of src/core/rng.ts.

// High and low halves of a * b, through 16-bit limbs: WGSL has no wide product.
fn mul_hi_lo(a: u32, b: u32) -> vec2u {
  let ah = a >> 16u;
  let al = a & 0xffffu;
  let bh = b >> 16u;
  let bl = b & 0xffffu;
  let mid = ah * bl + ((al * bl) >> 16u);
  let mid2 = al * bh + (mid & 0xffffu);
  return vec2u(ah * bh + (mid >> 16u) + (mid2 >> 16u), a * b);
}

fn philox(counter: vec4u, key: vec2u) -> vec4u {
  var c = counter;
  var k = key;
  for (var round = 0u; round < 10u; round++) {
    let p0 = mul_hi_lo(0xd2511f53u, c.x);
    let p1 = mul_hi_lo(0xcd9e8d57u, c.z);
    c = vec4u(p1.x ^ c.y ^ k.x, p1.y, p0.x ^ c.w ^ k.y, p0.y);
    k += vec2u(0x9e3779b9u, 0xbb67ae85u);
  }
  return c;
}
