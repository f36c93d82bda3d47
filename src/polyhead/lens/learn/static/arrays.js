// Base64 goes in; arrays with a shape come out, as 64-bit numbers whatever they were saved as.

export function decoded({ shape, type, at, data }) {
  const bytes = Uint8Array.from(atob(data), (c) => c.charCodeAt(0));
  const view = new DataView(bytes.buffer);
  const size = { f32: 4, f16: 2, u8: 1 }[type];
  const whole = new Float64Array(shape.reduce((a, b) => a * b, 1)); // zeros where numbers were left out
  const read = { f32: (place) => view.getFloat32(place, true), f16: (place) => half(view.getUint16(place, true)), u8: (place) => view.getUint8(place) }[type];
  for (let i = 0; i * size < bytes.length; i++) whole[at + i] = read(i * size);
  return { shape, numbers: whole };
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
