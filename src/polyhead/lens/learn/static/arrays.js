// Base64 goes in; arrays with a shape come out, as 64-bit numbers whatever they were saved as.

export function decoded({ shape, type, data }) {
  const bytes = Uint8Array.from(atob(data), (c) => c.charCodeAt(0));
  const view = new DataView(bytes.buffer);
  const size = { f32: 4, f16: 2, u8: 1 }[type];
  const read = { f32: (at) => view.getFloat32(at, true), f16: (at) => half(view.getUint16(at, true)), u8: (at) => view.getUint8(at) }[type];
  const numbers = Float64Array.from({ length: bytes.length / size }, (_, i) => read(i * size));
  return { shape, numbers };
}

// The 16 bits of an IEEE half.
function half(bits) {
  const sign = bits & 0x8000 ? -1 : 1;
  const power = (bits >> 10) & 31;
  const rest = bits & 1023;
  if (power === 31) return rest ? NaN : sign * Infinity;
  return sign * (power ? 2 ** (power - 15) * (1 + rest / 1024) : 2 ** -14 * (rest / 1024));
}

// The row of an array at all indices but the last: a view, not a copy.
export function row({ shape, numbers }, ...indices) {
  const width = shape[shape.length - 1];
  const place = indices.reduce((at, index, axis) => at * shape[axis] + index, 0);
  return numbers.subarray(place * width, (place + 1) * width);
}
