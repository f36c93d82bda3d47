// The second and third zoom: the same station as a grid of numbers, and as the one sum of the pinned cell.

import { largest, part, summed } from './attention.js';
import { row } from './arrays.js';
import { el, fill, number, visible } from './dom.js';

const SHOWN = 8;

function table(heads, lines, { pinned = [-1, -1], pin = null, cells = () => "" } = {}) {
  return el("table", { class: "numbers" },
    el("thead", {}, el("tr", {}, el("td"), heads.map((head, j) => el("th", { scope: "col", class: j === pinned[1] ? "pinned" : "" }, head)))),
    el("tbody", {}, lines.map(([label, numbers], i) => el("tr", {}, el("th", { scope: "row", class: i === pinned[0] ? "pinned" : "" }, label),
      Array.from(numbers, (x, j) => el("td", { class: `${i === pinned[0] && j === pinned[1] ? "pin " : ""}${cells(i, j)}`, onclick: pin ? () => pin(i, j) : null }, number(x)))))));
}

const firsts = (numbers) => Array.from(numbers.subarray ? numbers.subarray(0, SHOWN) : numbers.slice(0, SHOWN));

export function grid(view, station) {
  const { lesson, reading, stages, state, t, words, rows, columns, pin } = view;
  const [i, j, h] = [state.row, state.column, state.head];
  const g = Math.floor(h / (lesson.heads / lesson.keyHeads));
  const D = reading.x.shape[1], K = lesson.width;
  const count = (n) => Array.from({ length: Math.min(SHOWN, n) }, (_, c) => String(c + 1));
  const note = (n, of) => el("p", { class: "small" }, fill(of === K ? t.first_of_head : t.features_first, { n: Math.min(SHOWN, of), D, K, head: h }));
  const square = { 3: stages.raw, 4: stages.scaled, 5: stages.shown, 6: stages.weights }[station];
  if (square) return table(columns, rows.map((word, n) => [word, square[n]]), { pinned: [i, j], pin });
  switch (station) {
    case 1: return el("div", {}, note(SHOWN, D), table(count(D), rows.map((word, n) => [word, firsts(row(reading.x, n))]), { pinned: [i, -1] }));
    case 2: return el("div", {}, note(SHOWN, K), table(count(K), [[`q ${words.row}`, firsts(row(reading.query, h, i))], [`k ${words.col}`, firsts(row(reading.key, g, j))], [`v ${words.col}`, firsts(row(reading.value, g, j))]]));
    case 7: return el("div", {}, note(SHOWN, K), table(count(K), [...columns.map((word, n) => [`${number(stages.weights[i][n])} × v ${word}`, firsts(row(reading.value, g, n)).map((x) => x * stages.weights[i][n])]), [`Σ ${words.row}`, firsts(stages.found[i])]], { pinned: [columns.length, -1] }));
    case 8: return el("div", {}, note(SHOWN, D), table(lesson.outFeatures.slice(0, SHOWN).map((f) => String(f + 1)), [...view.all.flatMap((found, n) => (lesson.hasHead[n] ? [[fill(t.head_n, { head: n }), view.off(n) ? new Float64Array(SHOWN) : firsts(part(lesson, found[i], n))]] : [])), ["out", firsts(view.output(i))]], { pinned: [lesson.hasHead.slice(0, h).filter(Boolean).length, -1] }));
    default: {
      const [was, adds] = [firsts(view.stream(i)), firsts(view.output(i))];
      return el("div", {}, note(SHOWN, D), table(lesson.outFeatures.slice(0, SHOWN).map((f) => String(f + 1)), [[t.stream, was], [t.adds, adds], [t.becomes, was.map((x, n) => x + adds[n])]]));
    }
  }
}

// The number of the pinned cell, as what it is the sum of. The values are kept apart from the page, for tests and for others.
export function pinned(view, station) {
  const { lesson, reading, stages, state, t, words, columns } = view;
  const [i, j, h] = [state.row, state.column, state.head];
  const g = Math.floor(h / (lesson.heads / lesson.keyHeads)), K = lesson.width;
  const q = row(reading.query, h, i), k = row(reading.key, g, j);
  const feature = (c) => fill(t.feature, { c: c + 1 });
  switch (station) {
    case 2: {
      const kept = lesson.askFeatures[h];
      const at = largest(kept.map((c) => q[c] * k[c]));
      const sum = summed(row(reading.x, i), row(lesson.ask, h, at), lesson.askBias ? row(lesson.askBias, h)[at] : null);
      const value = q[kept[at]];
      const after = Math.abs(value - sum.total) > 1e-3 * Math.max(1, Math.abs(value)) ? fill(t.worked_then, { value: number(value) }) : "";
      return { about: fill(t.worked_q, { ...words, c: kept[at] + 1, D: reading.x.shape[1] }), sum, label: feature, after };
    }
    case 3: return { about: fill(t.worked_score, words), sum: summed(q, k), label: feature };
    case 4: {
      const raw = stages.raw[i][j], root = Math.abs(stages.scale - K ** -0.5) < 1e-6;
      return { after: `${number(raw)} ${root ? `÷ ${number(Math.sqrt(K))}` : `× ${number(stages.scale)}`} = ${number(raw * stages.scale)}`, value: raw * stages.scale };
    }
    case 5: {
      const shown = stages.shown[i][j];
      return { after: shown === -Infinity ? `${number(stages.scaled[i][j])} → −∞ (${t.hidden})` : `${number(stages.scaled[i][j])} → ${number(shown)}`, value: shown };
    }
    case 6: {
      const large = Math.max(...stages.shown[i].map((s) => (s === -Infinity ? 0 : Math.abs(s)))) > 30;
      const top = large ? Math.max(...stages.shown[i]) : 0;
      const powers = stages.shown[i].map((s) => Math.exp(s - top));
      const sum = summed(powers, null);
      return { about: fill(t.worked_softmax, words) + (large ? ` ${t.shifted}` : ""), sum, label: (n) => columns[n], value: stages.weights[i][j], after: `${t.weight}: ${number(powers[j])} ÷ ${number(sum.total)} = ${number(stages.weights[i][j])}` };
    }
    case 7: {
      const c = largest(Array.from(row(reading.value, g, j), (x) => x * stages.weights[i][j]));
      return { about: fill(t.worked_value, { ...words, c: c + 1 }), sum: summed(stages.weights[i], columns.map((_, n) => row(reading.value, g, n)[c])), label: (n) => columns[n] };
    }
    case 8: {
      const f = view.feature(i);
      if (reading.rest) { // what the other heads wrote is known as one number
        const mine = view.off(h) ? 0 : part(lesson, view.all[h][i], h)[f], rest = row(reading.rest, i)[f];
        return { about: fill(t.worked_out, { ...words, c: lesson.outFeatures[f] + 1 }), sum: { terms: [{ at: h, left: mine, right: null, product: mine }], others: lesson.heads - 1, rest, more: null, total: mine + rest }, label: (n) => fill(t.head_n, { head: n }), note: pushed(view) };
      }
      const parts = view.all.map((found, n) => (view.off(n) ? 0 : part(lesson, found[i], n)[f]));
      return { about: fill(t.worked_out, { ...words, c: lesson.outFeatures[f] + 1 }), sum: summed(parts, null, lesson.outBias ? lesson.outBias.numbers[f] : null), label: (n) => fill(t.head_n, { head: n }), note: pushed(view) };
    }
    case 9: {
      const f = view.feature(i), was = view.stream(i)[f], adds = view.output(i)[f];
      return { about: fill(t.worked_add, { ...words, c: lesson.outFeatures[f] + 1 }), after: `${number(was)} + ${number(adds)} = ${number(was + adds)}`, value: was + adds };
    }
    default: return { value: row(reading.x, i)[0] };
  }
}

// What the head's part would do to the words' scores, which is known of the unbroken layer alone.
function pushed({ lesson, changed, state, t, words }) {
  const ends = changed ? null : lesson.pushes?.[state.head][state.row];
  return ends ? fill(t.pushes, { ...words, up: visible(ends[0]), down: visible(ends[1]) }).replaceAll("·", " ") : "";
}

export function sum(view, station) {
  const { t } = view;
  const { about, sum: total, label, after, note } = pinned(view, station);
  if (station === 1) return grid(view, 1);
  const lines = total ? [
    ...total.terms.map(({ at, left, right, product }) => el("tr", {}, el("th", { scope: "row" }, label(at)), el("td", {}, right === null ? "" : `${number(left)} × ${number(right)}`), el("td", {}, number(product)))),
    total.others ? el("tr", { class: "others" }, el("th", { scope: "row" }, fill(total.others === 1 ? t.other_1 : t.others, { n: total.others })), el("td"), el("td", {}, number(total.rest))) : null,
    total.more !== null ? el("tr", { class: "others" }, el("th", { scope: "row" }, t.bias), el("td"), el("td", {}, number(total.more))) : null,
    el("tr", { class: "total" }, el("th", { scope: "row" }, t.total), el("td"), el("td", {}, number(total.total))),
  ] : [];
  return el("div", { class: "worked" }, about ? el("p", {}, about) : null, lines.length ? el("table", { class: "sum" }, el("tbody", {}, lines)) : null, after ? el("p", { class: "result" }, after) : null, note ? el("p", { class: "note" }, note) : null);
}
