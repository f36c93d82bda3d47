// Base64 goes in; arrays with a shape come out, as 64-bit numbers whatever they were saved as.

import { half } from '../../page/static/bytes.js';

// Every array of a lesson decoded, wherever it lies.
export function opened(value) {
  if (Array.isArray(value)) return value.map(opened);
  if (value === null || typeof value !== "object") return value;
  if (typeof value.data === "string" && Array.isArray(value.shape)) return decoded(value);
  return Object.fromEntries(Object.entries(value).map(([name, inner]) => [name, opened(inner)]));
}

function decoded({ shape, type, at, data }) {
  const bytes = Uint8Array.from(atob(data), (c) => c.charCodeAt(0));
  const view = new DataView(bytes.buffer);
  const size = { f32: 4, f16: 2, u8: 1 }[type];
  const whole = new Float64Array(shape.reduce((a, b) => a * b, 1)); // zeros where numbers were left out
  const read = { f32: (place) => view.getFloat32(place, true), f16: (place) => half(view.getUint16(place, true)), u8: (place) => view.getUint8(place) }[type];
  for (let i = 0; i * size < bytes.length; i++) whole[at + i] = read(i * size);
  return { shape, numbers: whole };
}

// The row of an array at all indices but the last: a view, not a copy.
export function row({ shape, numbers }, ...indices) {
  const width = shape[shape.length - 1];
  const place = indices.reduce((at, index, axis) => at * shape[axis] + index, 0);
  return numbers.subarray(place * width, (place + 1) * width);
}
