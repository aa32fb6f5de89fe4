// Products of 4 x 4 tiles held in registers. A tile's columns are rows of tensors: four values of one head each.

/** acc[j][i] += a[i] · b[j]: the scores of four rows against four. */
fn products(acc: mat4x4f, a: mat4x4f, b: mat4x4f) -> mat4x4f {
  return mat4x4f(dots(acc[0], a, b[0]), dots(acc[1], a, b[1]), dots(acc[2], a, b[2]), dots(acc[3], a, b[3]));
}

fn dots(acc: vec4f, a: mat4x4f, b: vec4f) -> vec4f {
  var s = fma(vec4f(a[0].x, a[1].x, a[2].x, a[3].x), vec4f(b.x), acc);
  s = fma(vec4f(a[0].y, a[1].y, a[2].y, a[3].y), vec4f(b.y), s);
  s = fma(vec4f(a[0].z, a[1].z, a[2].z, a[3].z), vec4f(b.z), s);
  return fma(vec4f(a[0].w, a[1].w, a[2].w, a[3].w), vec4f(b.w), s);
}

/** acc[i] += weight[i] · x: a row's share in four sums of rows. */
fn weigh(acc: mat4x4f, weight: vec4f, x: vec4f) -> mat4x4f {
  return mat4x4f(
    fma(vec4f(weight.x), x, acc[0]), fma(vec4f(weight.y), x, acc[1]),
    fma(vec4f(weight.z), x, acc[2]), fma(vec4f(weight.w), x, acc[3]),
  );
}

/** Four rows of four vec4 columns each, column by column. */
struct Columns { a: mat4x4f, b: mat4x4f, c: mat4x4f, d: mat4x4f }

/** `weigh` for four columns; x holds a row's four columns. */
fn weighAll(acc: Columns, weight: vec4f, x: mat4x4f) -> Columns {
  return Columns(
    weigh(acc.a, weight, x[0]), weigh(acc.b, weight, x[1]),
    weigh(acc.c, weight, x[2]), weigh(acc.d, weight, x[3]),
  );
}

/** Row i times x[i]. */
fn scaled(r: Columns, x: vec4f) -> Columns {
  return Columns(scaledRows(r.a, x), scaledRows(r.b, x), scaledRows(r.c, x), scaledRows(r.d, x));
}

fn scaledRows(r: mat4x4f, x: vec4f) -> mat4x4f { return mat4x4f(r[0] * x.x, r[1] * x.y, r[2] * x.z, r[3] * x.w); }
