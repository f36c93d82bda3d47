// The formula of one attention layer, and the same with something broken. Nothing here knows of a page.
//
// A lesson has heads, keyHeads, width (K), scale, softcap; a reading has what the layer met when the model read the text
// in one way: x, memory, stream [.., D], query [H, T, K], key and value [G, S, K], bias [H, T, S] or none, visible [1 or H, T, S].

import { row } from './arrays.js';

export const WHOLE = { scale: true, mask: null, temperature: 1, headOff: null };

export function dot(left, right) {
  let total = 0;
  for (let i = 0; i < left.length; i++) total += left[i] * right[i];
  return total;
}

// Every stage of one head: raw, scaled, shown (hidden ones are -Infinity), weights [T][S], found [T][K].
export function work(lesson, reading, breaks, h) {
  const g = Math.floor(h / (lesson.heads / lesson.keyHeads));
  const [T, S] = [reading.query.shape[1], reading.key.shape[1]];
  const scale = (breaks.scale ? lesson.scale : 1) / breaks.temperature;
  const raw = [], scaled = [], shown = [], weights = [], found = [];
  for (let i = 0; i < T; i++) {
    raw.push([]), scaled.push([]), shown.push([]);
    for (let j = 0; j < S; j++) {
      const product = dot(row(reading.query, h, i), row(reading.key, g, j));
      let score = product * scale;
      if (lesson.softcap) score = lesson.softcap * Math.tanh(score / lesson.softcap);
      if (reading.bias) score += row(reading.bias, h, i)[j];
      raw[i].push(product);
      scaled[i].push(score);
      shown[i].push(sees(reading, breaks, h, i, j) ? score : -Infinity);
    }
    weights.push(softmax(shown[i]));
    found.push(weighted(weights[i], reading.value, g));
  }
  return { raw, scaled, shown, weights, found, scale };
}

function sees(reading, breaks, h, i, j) {
  if (breaks.mask === true) return j <= i;
  if (breaks.mask === false) return true;
  return row(reading.visible, reading.visible.shape[0] > 1 ? h : 0, i)[j] > 0;
}

export function softmax(scores) {
  const top = Math.max(...scores);
  if (top === -Infinity) return scores.map(() => 0);
  const powers = scores.map((score) => Math.exp(score - top));
  const sum = powers.reduce((a, b) => a + b, 0);
  return powers.map((power) => power / sum);
}

function weighted(weights, value, g) {
  const total = new Float64Array(value.shape[2]);
  weights.forEach((weight, j) => row(value, g, j).forEach((v, c) => (total[c] += weight * v)));
  return total;
}

// What a head writes into the kept features of the output [F], from what it found [K].
export function part(lesson, found, h) {
  const total = new Float64Array(lesson.outFeatures.length);
  found.forEach((z, c) => row(lesson.out, h, c).forEach((w, f) => (total[f] += z * w)));
  return total;
}

// How long all of what a head writes is, over every feature of the output.
export function length(lesson, found, h) {
  if (!lesson.gram) return Math.sqrt(dot(part(lesson, found, h), part(lesson, found, h)));
  let total = 0;
  found.forEach((z, c) => (total += z * dot(row(lesson.gram, h, c), found)));
  return Math.sqrt(Math.max(total, 0));
}

// A number as the sum that it is: the largest terms, and what the others add up to.
export function summed(left, right, more = null, most = 6) {
  const products = Array.from(left, (l, i) => l * (right ? right[i] : 1));
  const first = products.map((_, i) => i).sort((a, b) => Math.abs(products[b]) - Math.abs(products[a]) || a - b).slice(0, most);
  const all = products.reduce((a, b) => a + b, 0);
  const rest = all - first.reduce((a, i) => a + products[i], 0);
  const terms = first.map((i) => ({ at: i, left: left[i], right: right ? right[i] : null, product: products[i] }));
  return { terms, others: products.length - first.length, rest, more, total: all + (more ?? 0) };
}

export function furthest(numbers) {
  let best = 0;
  numbers.forEach((x, i) => { if (Math.abs(x) > Math.abs(numbers[best])) best = i; });
  return best;
}

// Over how many words a row is spread: e to its entropy.
export function spread(weights) {
  return Math.exp(-weights.reduce((a, w) => a + (w > 0 ? w * Math.log(w) : 0), 0));
}
