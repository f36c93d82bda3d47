// The second and third zoom: the same station as a grid of numbers, and as the one sum of the pinned cell.

import { furthest, part, summed } from './attention.js';
import { row } from './arrays.js';
import { make } from '../../page/static/dom.js';
import { shown } from '../../page/static/tokens.js';
import { filled, number } from './phrases.js';

const SHOWN = 8;

function tabled(heads, lines, { pinned = [-1, -1], pin = null, cells = () => "" } = {}) {
  return make("table", { class: "numbers" },
    make("thead", {}, make("tr", {}, make("td"), heads.map((head, j) => make("th", { scope: "col", class: j === pinned[1] ? "pinned key" : "" }, head)))),
    make("tbody", {}, lines.map(([label, numbers], i) => make("tr", {}, make("th", { scope: "row", class: i === pinned[0] ? "pinned query" : "" }, label),
      Array.from(numbers, (x, j) => make("td", { class: `${i === pinned[0] && j === pinned[1] ? "pin " : ""}${cells(i, j)}`, onclick: pin ? () => pin(i, j) : null }, number(x)))))));
}

const firsts = (numbers) => Array.from(numbers.subarray ? numbers.subarray(0, SHOWN) : numbers.slice(0, SHOWN));

export function grid(view, station) {
  const { lesson, reading, stages, state, t, words, rows, columns, pin } = view;
  const [i, j, h] = [state.row, state.column, state.head];
  const g = Math.floor(h / (lesson.heads / lesson.keyHeads));
  const D = reading.x.shape[1], K = lesson.width;
  const count = (n) => Array.from({ length: Math.min(SHOWN, n) }, (_, c) => String(c + 1));
  const note = (n, of) => make("p", { class: "small" }, filled(of === K ? t.first_of_head : t.features_first, { n: Math.min(SHOWN, of), D, K, head: h }));
  const square = { 3: stages.raw, 4: stages.scaled, 5: stages.shown, 6: stages.weights }[station];
  if (square) return tabled(columns, rows.map((word, n) => [word, square[n]]), { pinned: [i, j], pin });
  switch (station) {
    case 1: return make("div", {}, note(SHOWN, D), tabled(count(D), rows.map((word, n) => [word, firsts(row(reading.x, n))]), { pinned: [i, -1] }));
    case 2: return make("div", {}, note(SHOWN, K), tabled(count(K), [[`q ${words.row}`, firsts(row(reading.query, h, i))], [`k ${words.col}`, firsts(row(reading.key, g, j))], [`v ${words.col}`, firsts(row(reading.value, g, j))]]));
    case 7: return make("div", {}, note(SHOWN, K), tabled(count(K), [...columns.map((word, n) => [`${number(stages.weights[i][n])} × v ${word}`, firsts(row(reading.value, g, n)).map((x) => x * stages.weights[i][n])]), [`Σ ${words.row}`, firsts(stages.found[i])]], { pinned: [columns.length, -1] }));
    case 8: return make("div", {}, note(SHOWN, D), tabled(lesson.outFeatures.slice(0, SHOWN).map((f) => String(f + 1)), [...view.all.flatMap((found, n) => (lesson.hasHead[n] ? [[filled(t.head_n, { head: n }), view.off(n) ? new Float64Array(SHOWN) : firsts(part(lesson, found[i], n))]] : [])), ["out", firsts(view.output(i))]], { pinned: [lesson.hasHead.slice(0, h).filter(Boolean).length, -1] }));
    default: {
      const [was, adds] = [firsts(view.stream(i)), firsts(view.output(i))];
      return make("div", {}, note(SHOWN, D), tabled(lesson.outFeatures.slice(0, SHOWN).map((f) => String(f + 1)), [[t.stream, was], [t.adds, adds], [t.becomes, was.map((x, n) => x + adds[n])]]));
    }
  }
}

// One feature of a projection, of a row of what was read: the sum with its bias, and what is multiplied in the end.
function projected({ lesson, words, t }, which, n, input, values, weighs) {
  const { features, columns, bias } = lesson.projections[which];
  const at = furthest(features[n].map((c) => values[c] * weighs[c])), c = features[n][at];
  const sum = summed(input, row(columns, n, at), bias ? row(bias, n)[at] : null), value = values[c];
  const after = Math.abs(value - sum.total) > 1e-3 * Math.max(1, Math.abs(value)) ? filled(t.worked_then, { value: number(value) }) : "";
  return { about: filled(t[`worked_${which}`], { ...words, c: c + 1, D: input.length }), sum, label: (f) => filled(t.feature, { c: f + 1 }), after };
}

// The numbers of the pinned cell at a station, each as what it is the sum of. They are kept apart from the page, for tests
// and for others.
export function pinned(view, station) {
  const { lesson, reading, stages, state, t, words, columns } = view;
  const [i, j, h] = [state.row, state.column, state.head];
  const g = Math.floor(h / (lesson.heads / lesson.keyHeads)), K = lesson.width;
  const q = row(reading.query, h, i), k = row(reading.key, g, j), v = row(reading.value, g, j);
  switch (station) {
    case 2: {
      const looked = row(reading.memory ?? reading.x, j);
      return [projected(view, "q", h, row(reading.x, i), q, k), projected(view, "k", g, looked, k, q), projected(view, "v", g, looked, v, v)];
    }
    case 3: return [{ about: filled(t.worked_score, words), sum: summed(q, k), label: (c) => filled(t.feature, { c: c + 1 }) }];
    case 4: {
      const raw = stages.raw[i][j], root = Math.abs(stages.scale - K ** -0.5) < 1e-6;
      return [{ after: `${number(raw)} ${root ? `÷ ${number(Math.sqrt(K))}` : `× ${number(stages.scale)}`} = ${number(raw * stages.scale)}`, value: raw * stages.scale }];
    }
    case 5: {
      const score = stages.shown[i][j];
      return [{ after: score === -Infinity ? `${number(stages.scaled[i][j])} → −∞ (${t.hidden})` : `${number(stages.scaled[i][j])} → ${number(score)}`, value: score }];
    }
    case 6: {
      const large = Math.max(...stages.shown[i].map((s) => (s === -Infinity ? 0 : Math.abs(s)))) > 30;
      const top = large ? Math.max(...stages.shown[i]) : 0;
      const powers = stages.shown[i].map((s) => Math.exp(s - top));
      const sum = summed(powers, null);
      return [{ about: filled(t.worked_softmax, words) + (large ? ` ${t.shifted}` : ""), sum, label: (n) => columns[n], value: stages.weights[i][j], after: `${t.weight}: ${number(powers[j])} ÷ ${number(sum.total)} = ${number(stages.weights[i][j])}` }];
    }
    case 7: {
      const c = furthest(v.map((x) => x * stages.weights[i][j]));
      return [{ about: filled(t.worked_value, { ...words, c: c + 1 }), sum: summed(stages.weights[i], columns.map((_, n) => row(reading.value, g, n)[c])), label: (n) => columns[n] }];
    }
    case 8: {
      const f = view.feature(i), about = filled(t.worked_out, { ...words, c: lesson.outFeatures[f] + 1 }), label = (n) => filled(t.head_n, { head: n });
      const mine = view.off(h) ? 0 : part(lesson, view.all[h][i], h)[f];
      const own = { about: filled(t.worked_part, { ...words, head: h, K, c: lesson.outFeatures[f] + 1 }), sum: summed(view.all[h][i], Array.from({ length: K }, (_, c) => row(lesson.out, h, c)[f])), label: (c) => filled(t.feature, { c: c + 1 }) };
      const parts = () => view.all.map((found, n) => (view.off(n) ? 0 : part(lesson, found[i], n)[f]));
      const sum = reading.rest // what the other heads wrote is known as one number
        ? { terms: [{ at: h, left: mine, right: null, product: mine }], others: lesson.heads - 1, rest: row(reading.rest, i)[f], more: null, total: mine + row(reading.rest, i)[f] }
        : summed(parts(), null, lesson.outBias ? lesson.outBias.numbers[f] : null);
      return [...(view.off(h) ? [] : [own]), { about, sum, label, note: pushed(view) }];
    }
    case 9: {
      const f = view.feature(i), was = view.stream(i)[f], adds = view.output(i)[f];
      return [{ about: filled(t.worked_add, { ...words, c: lesson.outFeatures[f] + 1 }), after: `${number(was)} + ${number(adds)} = ${number(was + adds)}`, value: was + adds }];
    }
    default: return [{ value: row(reading.x, i)[0] }];
  }
}

// What the head's part would do to the words' scores, which is known of the unbroken layer alone.
function pushed({ lesson, changed, state, t, words }) {
  const ends = changed ? null : lesson.pushes?.[state.head][state.row];
  return ends ? filled(t.pushes, { ...words, up: shown(ends[0]), down: shown(ends[1]) }).replaceAll("·", " ") : "";
}

export function sum(view, station) {
  return station === 1 ? grid(view, 1) : make("div", {}, pinned(view, station).map((one) => written(view.t, one)));
}

function written(t, { about, sum: total, label, after, note }) {
  const lines = total ? [
    ...total.terms.map(({ at, left, right, product }) => make("tr", {}, make("th", { scope: "row" }, label(at)), make("td", {}, right === null ? "" : `${number(left)} × ${number(right)}`), make("td", {}, number(product)))),
    total.others ? make("tr", { class: "others" }, make("th", { scope: "row" }, filled(total.others === 1 ? t.other_1 : t.others, { n: total.others })), make("td"), make("td", {}, number(total.rest))) : null,
    total.more !== null ? make("tr", { class: "others" }, make("th", { scope: "row" }, t.bias), make("td"), make("td", {}, number(total.more))) : null,
    make("tr", { class: "total" }, make("th", { scope: "row" }, t.total), make("td"), make("td", {}, number(total.total))),
  ] : [];
  return make("div", { class: "worked" }, about ? make("p", {}, about) : null, lines.length ? make("table", { class: "sum" }, make("tbody", {}, lines)) : null, after ? make("p", { class: "result" }, after) : null, note ? make("p", { class: "note" }, note) : null);
}
