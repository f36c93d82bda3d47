// A map turned by its diagonal: for each word that looks, how much goes how far back; a head that looks one back is a line.

import { grouped } from './dom.js';
import { weights } from './data.js';
import { say } from './say.js';
import { state } from './state.js';

const NEAR = 32, OCTAVE = 8, SOME = 256; // as the server has them

// The line of a distance: one each up to 32, then eight from any to twice as far.
function lineOf(far) {
  if (far < NEAR) return far;
  const octave = 31 - Math.clz32(far);
  return NEAR + OCTAVE * (octave - 5) + (far >> (octave - 3)) % OCTAVE;
}

// The nearest distance of a line.
function distanceOf(line) {
  if (line < NEAR) return line;
  return (OCTAVE + (line - NEAR) % OCTAVE) << (2 + Math.floor((line - NEAR) / OCTAVE));
}

// Who is written next stands one on from the word that was read.
const ahead = (rows) => rows.name === 'chosen' ? 1 : 0;

// The distance from which lines are of several.
export const farthest = (rows) => NEAR + ahead(rows);

// Those of n places that the server looks at where it does not look at all.
export const spread = (n) => Array.from({ length: Math.min(n, SOME) }, (_, c) => n <= SOME ? c : Math.floor((c + 0.5) * n / SOME));

// The band of a head as a picture of the map: from its matrix, or else from what `ask` gives of some of its rows.
export async function bandOf(base, matrix, ask) {
  const { T, S, rows } = base, off = S - T, queries = matrix ? Array.from({ length: T }, (_, i) => i) : spread(T), n = queries.length;
  let lines = lineOf(S - 1) + 1, data = new Float32Array(lines * n);
  if (matrix) for (let i = 0; i < T; i++) for (let j = 0; j <= Math.min(S - 1, i + off); j++) data[lineOf(i + off - j) * n + i] += matrix.data[i * S + j];
  else {
    const found = await ask();
    if (!found) return { ...base, absent: true, data: null };
    [data, [lines]] = [Float32Array.from(weights(found)), found.shape]; // as far as the last of these rows looks
  }
  if (state.sinks) {
    await base.columns.load(0, S - 1);
    queries.forEach((query, column) => {
      for (let line = 0, far; line < lines && (far = distanceOf(line)) <= query + off; line++) {
        const last = Math.min(distanceOf(line + 1) - 1, query + off);
        while (far <= last && base.hidden(query + off - far)) far++;
        if (far > last) data[line * n + column] = NaN;
      }
    });
  }
  const placeAt = (line, column) => {
    const query = queries[column] ?? -1, first = distanceOf(line), last = Math.min(distanceOf(line + 1) - 1, query + off);
    if (line < 0 || query < 0 || first > last || !matrix && last > first) return [query, -1];
    let key = query + off - first; // of several, the one that is looked at most
    if (matrix) for (let far = first; far <= last; far++) if (Math.abs(matrix.data[query * S + query + off - far]) > Math.abs(matrix.data[query * S + key])) key = query + off - far;
    return [query, key];
  };
  return {
    ...base, name: `${base.name}/band`, T: lines, S: n, data, free: true, causal: false, exact: matrix?.exact, said: [n < T && say('some queries', grouped(n), grouped(T)), lines > NEAR && say('band sums', farthest(rows)), !matrix?.exact && say('tiles8')].filter(Boolean).join(' · '),
    rows: { kind: 'distance', load: () => null }, columns: rows, titles: [[`${say('how far back')} →`, 'key'], [`${say('looks')} (query) →`, 'query']],
    rowLabel: (line) => { const [first, last] = [distanceOf(line), Math.min(S, distanceOf(line + 1)) - 1].map((far) => far + ahead(rows)); return last > first ? `${first}–${last}` : `${first}`; },
    columnLabel: (column) => n < T ? grouped(queries[column]) : rows.label(column), columnNumber: (column) => queries[column],
    cellOf: (query, key) => query < 0 ? [-1, -1] : [key < 0 || key > query + off ? -1 : Math.min(lines - 1, lineOf(query + off - key)), Math.min(n - 1, Math.floor(query * n / T))],
    placeAt, rowAt: () => -1, columnAt: (column) => queries[column] ?? -1,
    rowFaint: () => false, columnFaint: (column) => rows.signs.has(queries[column]), hidden: () => false, barred: (line, column) => distanceOf(line) > queries[column] + off,
  };
}
