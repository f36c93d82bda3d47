// The first zoom: what happens at a station, as a picture.

import { css, ink, rgb } from '../../page/static/colour.js';
import { make, theme } from '../../page/static/dom.js';
import { furthest, length, part } from './attention.js';
import { row } from './arrays.js';
import { filled, rounded } from './phrases.js';

const share = (weight) => rgb(weight, "linear"); // a weight
const signed = (x, top) => rgb(x / (top || 1), "sqrt", true); // a number from -top to top: blue below zero, orange above
const blended = (a, b, t) => a.map((x, i) => x + (b[i] - x) * t);

// A row of numbers as a strip of cells.
export function strip(numbers, top, about, kind = "") {
  const canvas = make("canvas", { class: `strip ${kind}`, role: "img", "aria-label": about, width: numbers.length * 4, height: 16 });
  later(canvas, (pen) => {
    numbers.forEach((x, i) => { pen.fillStyle = css(signed(x, top)); pen.fillRect(i * 4, 0, 4, 16); });
  });
  return canvas;
}

// A canvas is drawn once it stands on the page, whose theme its colours are of.
function later(canvas, draw) {
  queueMicrotask(() => draw(canvas.getContext("2d")));
}

const most = (rows) => Math.max(1e-9, ...rows.map((numbers) => Math.abs(numbers[furthest(numbers)])));

function lined(rows, { pinned = -1, role = "query", top = most(rows.map(([, numbers]) => numbers)), kind = "" } = {}) {
  return make("div", { class: "strips" }, rows.map(([label, numbers], i) =>
    make("div", { class: i === pinned ? `line pinned ${role}` : "line" }, make("span", { class: "label" }, label), strip(numbers, top, label, kind))));
}

// The weights or scores of all pairs. `blend` is how far it is on the way from one stage to the next, from 0 to 1.
export function matrix(view, from, to, blend, label) {
  const { rows, columns, state, pin } = view;
  const [T, S] = [rows.length, columns.length];
  const room = Math.min(Math.max(innerWidth - 130, 200), view.half ? 360 : 600);
  const side = Math.max(Math.min(Math.floor(room / Math.max(T, S)), 60), 9);
  const written = side >= 34, gap = side < 14 ? 0 : 1;
  const pixels = 2; // for sharp edges on dense screens
  const canvas = make("canvas", { class: "matrix", tabindex: 0, role: "img", "aria-label": label, width: S * side * pixels, height: T * side * pixels });
  canvas.style.width = `${S * side}px`;
  const colourOf = (stage, x) => (x === -Infinity ? null : stage.weights ? share(x) : signed(x, stage.top));
  later(canvas, (pen) => {
    const ground = signed(0, 1), line = theme("strong");
    pen.scale(pixels, pixels);
    for (let i = 0; i < T; i++) for (let j = 0; j < S; j++) {
      const [a, b] = [colourOf(from, from.cells[i][j]), colourOf(to, to.cells[i][j])];
      const gone = to.cells[i][j] === -Infinity && blend > 0.5;
      const hidden = gone || (a === null && b === null);
      const rgb = hidden ? ground : blended(a ?? ground, b ?? ground, blend);
      pen.fillStyle = css(rgb);
      pen.fillRect(j * side, i * side, side - gap, side - gap);
      if (hidden) hatch(pen, j * side, i * side, side - 1, line);
      else if (written) {
        const near = blend > 0.5 ? to : from;
        const x = near.cells[i][j];
        pen.fillStyle = ink(rgb);
        pen.font = `${Math.min(side * 0.3, 14)}px system-ui, sans-serif`;
        pen.textAlign = "center";
        pen.textBaseline = "middle";
        pen.fillText(near.weights ? (100 * x).toFixed(0) : x.toFixed(1).replace("-", "−"), j * side + side / 2, i * side + side / 2);
      }
    }
    for (const [width, colour] of [[5, theme("paper")], [3, theme("ink")]]) {
      pen.lineWidth = width;
      pen.strokeStyle = colour;
      pen.strokeRect(state.column * side + 1.5, state.row * side + 1.5, side - 4, side - 4);
    }
  });
  const at = (event) => {
    const box = canvas.getBoundingClientRect();
    pin(Math.min(Math.floor(((event.clientY - box.top) / box.height) * T), T - 1), Math.min(Math.floor(((event.clientX - box.left) / box.width) * S), S - 1));
  };
  canvas.addEventListener("click", at);
  canvas.addEventListener("keydown", (event) => {
    const step = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] }[event.key];
    if (!step) return;
    event.preventDefault();
    event.stopPropagation();
    pin(Math.min(Math.max(state.row + step[0], 0), T - 1), Math.min(Math.max(state.column + step[1], 0), S - 1), ".matrix");
  });
  const head = make("div", { class: side >= 34 ? "above" : "above upright" }, columns.map((word, j) => sized(make("span", { class: j === state.column ? "pinned key" : "" }, word), side)));
  const left = make("div", { class: "beside" }, rows.map((word, i) => {
    const span = make("span", { class: i === state.row ? "pinned query" : "" }, word);
    span.style.height = span.style.lineHeight = `${side}px`;
    span.style.fontSize = `${Math.min(side + 1, 14)}px`;
    return span;
  }));
  return make("div", { class: "matrix-box" }, make("div", { class: "corner" }), head, left, canvas);
}

function sized(span, side) {
  span.style.width = `${side}px`;
  return span;
}

function hatch(pen, x, y, side, colour) {
  pen.save();
  pen.beginPath();
  pen.rect(x, y, side, side);
  pen.clip();
  pen.strokeStyle = colour;
  pen.lineWidth = 1;
  for (let d = -side; d < side; d += 5) {
    pen.beginPath();
    pen.moveTo(x + d, y + side);
    pen.lineTo(x + d + side, y);
    pen.stroke();
  }
  pen.restore();
}

export function bar(weight, label) {
  const inner = make("span", { class: "fill" });
  inner.style.width = `${Math.max(0, Math.min(weight, 1)) * 100}%`;
  return make("span", { class: "bar", role: "img", "aria-label": label }, inner);
}

// Small drawings of the nine stations for the ribbon, in a square of 24: lines, and what is filled.
const SIGNS = [
  ["", "M3 4h18v4H3zM3 10h18v4H3zM3 16h18v4H3z"],
  ["M12 19L5 7M12 19V7M12 19L19 7", "M12 16a3 3 0 1 0 .01 0zM5 3a2.5 2.5 0 1 0 .01 0zM12 3a2.5 2.5 0 1 0 .01 0zM19 3a2.5 2.5 0 1 0 .01 0z"],
  ["M3 8h18M8 3v18", "M8 4.5a3.5 3.5 0 1 0 .01 0z"],
  ["M4 12h16", "M12 4a2 2 0 1 0 .01 0zM12 16a2 2 0 1 0 .01 0z"],
  ["M4 4h16v16H4z", "M4 4v16h16z"],
  ["M2 21h20", "M4 14h3v6H4zM10 4h4v16h-4zM17 17h3v3h-3z"],
  ["M4 5L18 12M4 12h14M4 19L18 12", "M18 8.500a3.500 3.500 0 1 0 .01 0z"],
  ["M12 12v5", "M2 4h5v5H2zM9.500 4h5v5h-5zM17 4h5v5h-5zM2 17h20v4H2z"],
  ["M12 4v16M4 12h16", ""],
];

export const sign = (n) => make("svg", { class: "sign", viewBox: "-6 -6 36 36", "aria-hidden": "true" }, make("path", { class: "stroke", d: SIGNS[n][0] }), make("path", { class: "fill", d: SIGNS[n][1] }));

// The picture of a station: `view` knows the words, the reading and the stages of the head.
export function picture(view, at) {
  const drawn = drawing(view, at);
  return Math.round(at) >= 4 && Math.round(at) <= 6 ? drawn : make("div", {}, drawn, make("p", { class: "small" }, view.t.strip_note));
}

function drawing(view, at) {
  const { lesson, reading, stages, state, t, words } = view;
  const [i, j, h] = [state.row, state.column, state.head];
  const g = Math.floor(h / (lesson.heads / lesson.keyHeads));
  const station = Math.round(at);
  const q = row(reading.query, h, i), k = row(reading.key, g, j), v = row(reading.value, g, j);
  if (station >= 3 && station <= 6) {
    const top = Math.max(1e-9, ...stages.raw.flat().map(Math.abs));
    const every = { 3: { cells: stages.raw, top }, 4: { cells: stages.scaled, top: top }, 5: { cells: stages.shown, top }, 6: { cells: stages.weights, weights: true } };
    const [a, b] = [Math.max(Math.floor(at), 3), Math.min(Math.ceil(at), 6)];
    const map = matrix(view, every[a], every[b], at - Math.floor(at), t.stations[station - 1].title);
    const products = Array.from(q, (x, c) => x * k[c]);
    const above = station === 3 ? [lined([[`q ${words.row}`, q], [`k ${words.col}`, k], ["q × k", products]])] : [];
    return make("div", {}, above, map, legend(station === 6, top, t));
  }
  const x = (n) => row(reading.x, n), memory = reading.memory ?? reading.x;
  if (station === 1) {
    const lines = view.rows.map((word, n) => [word, x(n)]);
    const others = reading.memory ? view.columns.map((word, n) => [word, row(memory, n)]) : [];
    return make("div", {}, lined(lines, { pinned: i, kind: "wide" }), others.length ? [make("p", { class: "small" }, t.looked_at), lined(others, { pinned: j, role: "key", kind: "wide" })] : []);
  }
  if (station === 2) {
    const three = [["q", reading.query, h, view.rows, i, "query"], ["k", reading.key, g, view.columns, j, "key"], ["v", reading.value, g, view.columns, j, "key"]];
    return make("div", {}, blocks(view), make("div", { class: "three" }, three.map(([letter, array, n, labels, pinned, role]) =>
      make("div", {}, make("h3", { class: "letters" }, `${letter} [${labels.length}, ${lesson.width}]`), lined(labels.map((word, w) => [word, row(array, n, w)]), { pinned, role })))));
  }
  if (station === 7) {
    const values = view.columns.map((_, n) => row(reading.value, g, n));
    const top = most(values);
    const lines = view.columns.map((word, n) => make("div", { class: n === j ? "line pinned key" : "line" }, make("span", { class: "label" }, word), bar(stages.weights[i][n], rounded(stages.weights[i][n])),
      make("span", { class: "value" }, rounded(stages.weights[i][n])), make("span", { class: "times" }, "×"), strip(values[n], top, `v ${word}`), make("span", { class: "times" }, "="), strip(Array.from(values[n], (y) => y * stages.weights[i][n]), top, `${word}`)));
    return make("div", { class: "strips sums" }, lines, make("div", { class: "line total" }, make("span", { class: "label" }, `Σ ${words.row}`), make("span", {}), make("span", {}), make("span", {}), make("span", {}), make("span", { class: "times" }, "="), strip(stages.found[i], top, t.total)));
  }
  if (station === 8) {
    const lengths = view.all.map((found, n) => (view.off(n) ? 0 : length(lesson, found[i], n)));
    const sum = lengths.reduce((a, b) => a + b, 0) || 1;
    const top = most(view.all.map((found) => found[i]));
    return make("div", {}, make("div", { class: "strips sums" }, view.all.map((found, n) => lesson.hasHead[n] && make("div", { class: n === h ? "line pinned" : "line" }, make("span", { class: "label" }, filled(t.head_n, { head: n })), strip(found[i], top, `z ${n}`),
      make("span", { class: "times" }, "→"), bar(lengths[n] / sum, rounded(lengths[n] / sum)), make("span", { class: "value" }, rounded(lengths[n] / sum))))), lined([["out", view.output(i)]], { kind: "wide" }));
  }
  const [was, adds] = [view.stream(i), view.output(i)];
  return lined([[t.stream, was], [t.adds, adds], [t.becomes, Array.from(was, (y, n) => y + adds[n])]], { kind: "wide" });
}

// Which features a head owns, of every word: the answer to what heads split.
function blocks(view) {
  const { lesson, state, t } = view;
  const parts = Array.from({ length: lesson.heads }, (_, n) => make("span", { class: n === state.head ? "block on" : "block" }, lesson.heads <= 16 ? String(n) : ""));
  return make("figure", { class: "blocks" }, make("div", { class: "blockrow", role: "img", "aria-label": t.split_title }, parts),
    make("figcaption", {}, filled(t.split, { T: view.rows.length, H: lesson.heads, head: state.head, HK: lesson.heads * lesson.width, first: state.head * lesson.width + 1, last: (state.head + 1) * lesson.width })));
}

function legend(weights, top, t) {
  const canvas = make("canvas", { class: "legend", width: 120, height: 10, role: "img", "aria-label": weights ? t.legend_weight : t.legend_score });
  later(canvas, (pen) => {
    for (let n = 0; n < 120; n++) { pen.fillStyle = css(weights ? share(n / 119) : signed(n / 59.5 - 1, 1)); pen.fillRect(n, 0, 1, 10); }
  });
  return make("p", { class: "small" }, make("span", {}, weights ? "0 %" : `−${top.toFixed(1)}`), " ", canvas, " ", make("span", {}, weights ? "100 %" : top.toFixed(1)));
}

