// How undecided each word is, as a line of bars: the entropy of its row, in bits, from the very weights that are shown.

import { fill, grouped, make, surface, theme, token } from './dom.js';
import { spread } from './band.js';
import { apart, current, pin, preview, state } from './state.js';
import { plain } from './tokens.js';
import { say, unit } from './say.js';

const HIGH = 64, AXIS = 44, MOST_BARS = 400;

// The entropy of every row of a matrix, in bits; NaN of a row that looks nowhere.
export function entropies({ T, S, data }) {
  return Float32Array.from({ length: T }, (_, i) => {
    let sum = 0, bits = 0;
    for (let j = 0; j < S; j++) sum += data[i * S + j];
    for (let j = 0; j < S; j++) if (data[i * S + j] > 0) bits -= data[i * S + j] / sum * Math.log2(data[i * S + j] / sum);
    return sum > 0 ? Math.max(0, bits) : NaN;
  });
}

// The bars of the words that look; `reveal` brings one into sight.
export function createEntropy(app, rows, columns, reveal) {
  const canvas = make('canvas', { class: 'entropy', role: 'img' }), said = make('p', { class: 'fine' }), table = make('table', {});
  const details = make('details', { ontoggle: () => listed() }, make('summary', {}, say('as table')), table);
  const element = make('section', { class: 'plate spark' }, make('h2', { class: 'who' }, say('entropy'), make('small', {}, ` ${say('entropy unit')}`)), canvas, said, details);
  let values = null, queries = [], turn = 0, of = null;

  async function show(matrix) {
    if (matrix && matrix === of) return draw();
    if (apart()) { // numbers with signs are no shares
      [of, values, element.hidden] = [null, null, true];
      turn++;
      return;
    }
    of = matrix;
    const mine = ++turn, scene = app.shown(), found = matrix ? entropies(matrix) : scene.small(state.call) ? null : (await scene.sampled('entropy', state.call, state.head, app.weighting()))?.values.map((nats) => nats / Math.LN2);
    if (mine !== turn) return;
    values = found?.some((bits) => bits >= 0) ? found : null;
    element.hidden = !values;
    queries = matrix ? Array.from(values ?? [], (_, i) => i) : spread(rows.count);
    draw();
    listed();
  }

  const top = () => Math.max(1, Math.ceil(values.reduce((most, v) => v > most ? v : most, 0)));

  function draw() {
    if (!values?.length) return;
    const width = Math.max(220, Math.min(760, element.clientWidth)), context = surface(canvas, width, HIGH + 16), n = values.length, most = top();
    const each = Math.min(40, (width - AXIS - 2) / n), base = HIGH + 8, to = (bits) => base - bits / most * HIGH, gap = each > 5 ? 1.5 : 0, at = now();
    context.font = `11px ${theme('face')}`;
    context.textAlign = 'right';
    context.textBaseline = 'middle';
    for (const bits of [0, most / 2, most]) {
      context.fillStyle = theme('line');
      context.fillRect(AXIS, Math.round(to(bits)), each * n, 1);
      context.fillStyle = theme('soft');
      context.fillText(bits === most ? say('bits', most) : bits, AXIS - 6, to(bits));
    }
    values.forEach((bits, i) => {
      if (Number.isNaN(bits)) return;
      context.fillStyle = theme(i === at ? 'query' : 'strong');
      context.fillRect(AXIS + i * each, to(bits), Math.max(1, each - gap), Math.max(1, base - to(bits)));
    });
    canvas.setAttribute('aria-label', say('entropy from to', ...[Math.min, Math.max].map((of) => Array.from(values).filter((v) => !Number.isNaN(v)).reduce((a, b) => of(a, b)).toFixed(2)), unit(rows, n)));
    const i = at < 0 ? -1 : at, query = queries[i], bits = values[i];
    fill(said, i < 0 ? say('entropy about', grouped(n), grouped(rows.count), unit(rows, n)) : [token(rows.label(query)), ' ', Number.isNaN(bits) ? '—' : say('entropy of', bits.toFixed(2), (2 ** bits).toFixed(1), unit(columns, 2))]);
  }

  // The bar of the word that looks now; of rows that were left out, the nearest.
  function now() {
    const { query } = current();
    return query < 0 ? -1 : Math.min(values.length - 1, Math.floor(query * values.length / rows.count));
  }

  function listed() {
    if (!details.open || !values) return;
    fill(table, make('thead', {}, make('tr', {}, [say('place'), say('query word'), say('entropy unit')].map((name) => make('th', { scope: 'col' }, name)))),
      make('tbody', {}, queries.slice(0, MOST_BARS).map((query, i) => make('tr', {}, make('td', {}, grouped(query)), make('td', {}, plain(rows.label(query))), make('td', {}, Number.isNaN(values[i]) ? '—' : values[i].toFixed(3))))));
  }

  const at = (event) => {
    const each = Math.min(40, (canvas.clientWidth - AXIS - 2) / values.length), i = Math.floor((event.clientX - canvas.getBoundingClientRect().left - AXIS) / each);
    return queries[i] ?? -1;
  };
  canvas.addEventListener('pointermove', (event) => values && preview(at(event), -1));
  canvas.addEventListener('pointerleave', () => preview(-1, -1));
  canvas.addEventListener('click', (event) => {
    const query = values ? at(event) : -1;
    if (query < 0) return;
    pin({ query, key: -1 });
    reveal(query);
  });
  return { element, show, draw };
}
