// The same as the pictures, as a table: for whoever cannot or will not look at one, and to take along.

import { digits, fill, grouped, make } from './dom.js';
import { pin, state } from './state.js';
import { much, say, unit } from './say.js';
import { plain } from './tokens.js';

const MOST_ROWS = 60, MOST_COLUMNS = 40, WHOLE_TABLE = 1600;

export function createTable(host, app) {
  const broad = make('div', { class: 'broad' });
  let sorted = 1, upward = true, first = 0, turn = 0;

  // All that the present view shows, as {title, head, rows}.
  async function rows() {
    const view = state.view === 'heads' ? 'heads' : app.view();
    if (view === 'heads') return app.parts.atlas.table();
    if (view === 'sound' && app.parts.stage.words()) return app.parts.stage.words();
    return weights();
  }

  async function weights() {
    const picture = app.parts.picture, { T, S, data } = picture;
    await Promise.all([picture.rows.load(0, Math.min(T, 4096)), picture.columns.load(0, Math.min(S, 4096))]);
    if (data) return { title: app.sentence(), matrix: true, head: [`${unit(picture.rows)} ↓ ${unit(picture.columns)} →`, ...Array.from({ length: S }, (_, j) => plain(picture.columnLabel(j)))], rows: Array.from({ length: T }, (_, i) => [plain(picture.rowLabel(i)), ...data.subarray(i * S, (i + 1) * S)]) };
    const scene = app.shown(), at = Math.max(0, state.query), out = [];
    for (let i = at; i < Math.min(T, at + 20); i++) {
      const found = await scene.strongest('row', state.call, state.head, app.weighting(), i);
      for (const [j, w] of found?.links.slice(0, 8) ?? []) {
        await picture.columns.load(j, j);
        out.push([i, plain(picture.rowLabel(i)), j, plain(picture.columnLabel(j)), w]);
      }
    }
    return { title: say('only strongest'), head: [say('place'), say('query word'), say('place'), say('looked at'), say('share')], rows: out };
  }

  async function show(view) {
    const mine = ++turn;
    if (view === 'heads') return showHeads();
    const table = await rows();
    if (mine !== turn) return;
    if (!table.matrix) return fill(host, make('p', { class: 'note' }, table.title), plainTable(table));
    const columns = Math.min(MOST_COLUMNS, table.head.length - 1), many = Math.min(MOST_ROWS, Math.floor(WHOLE_TABLE / columns) || 1);
    if (state.query >= 0 && (state.query < first || state.query >= first + many)) first = Math.floor(state.query / many) * many;
    first = Math.max(0, Math.min(first, table.rows.length - 1));
    const left = state.key < columns ? 0 : Math.min(table.head.length - 1 - columns, Math.floor(state.key / columns) * columns), some = table.rows.slice(first, first + many), picture = app.parts.picture;
    const step = (by) => { first = Math.max(0, Math.min(table.rows.length - 1, first + by * many)); show(view); };
    fill(host, table.rows.length > many && make('div', { class: 'row' }, make('button', { class: 'quiet', disabled: first === 0, onclick: () => step(-1) }, say('earlier')), make('span', { class: 'fine' }, say('table cut', grouped(first + 1), grouped(first + some.length), grouped(table.rows.length))), make('button', { class: 'quiet', disabled: first + many >= table.rows.length, onclick: () => step(1) }, say('later'))),
      make('table', { class: 'matrix' }, make('caption', { class: 'away' }, table.title), make('thead', {}, make('tr', {}, make('th', { scope: 'col' }, table.head[0]), table.head.slice(1 + left, 1 + left + columns).map((label) => make('th', { scope: 'col' }, label.replace(/(?<=[a-z]) (?=\d)|(?<=\d) (?=行|列)/g, '\u00a0'))))),
        make('tbody', {}, some.map(([label, ...values], n) => make('tr', { class: picture.rowAt(first + n) === state.query ? 'chosen' : '' }, make('th', { scope: 'row' }, label), values.slice(left, left + columns).map((w, j) => {
          const i = first + n, k = left + j, query = picture.rowAt(i), key = picture.columnAt(k);
          return make('td', { class: query === state.query && key === state.key ? 'chosen' : '', onclick: () => query >= 0 && key >= 0 && pin({ query, key }) }, Number.isNaN(w) || picture.barred(i, k) || picture.hidden(k) ? '—' : state.weighting === 4 ? much(Number(w.toPrecision(3))) : w.toFixed(3).replace(/^(-?)0\./, '$1.'));
        }))))));
  }

  function plainTable(table) {
    return make('table', {}, make('thead', {}, make('tr', {}, table.head.map((name) => make('th', { scope: 'col' }, name)))), make('tbody', {}, table.rows.map((row) => make('tr', {}, row.map((value, n) => make('td', {}, typeof value === 'number' && n === row.length - 1 ? much(value) : value))))));
  }

  function showHeads() {
    const table = app.parts.atlas.table(), column = Math.min(sorted, table.head.length - 1), metrics = table.head.length - 3;
    const order = (a, b) => {
      const [x, y] = [a[column], b[column]];
      if (Number.isNaN(x) || Number.isNaN(y)) return Number.isNaN(x) - Number.isNaN(y);
      return (typeof x === 'string' ? x.localeCompare(y) : x - y) * (upward ? 1 : -1);
    };
    table.rows.sort(order);
    const heading = (name, n) => make('th', { scope: 'col', 'aria-sort': n === column ? (upward ? 'ascending' : 'descending') : null, title: table.about[n] }, make('button', { class: 'sort', onclick: () => { upward = n === sorted ? !upward : n < 3; sorted = n; showHeads(); host.querySelectorAll('.sort')[n].focus(); } }, name, n === column ? (upward ? ' ↑' : ' ↓') : ''));
    const here = (row) => row.at(-1) === state.call && row[2] === state.head;
    fill(host, fill(broad, make('h2', { class: 'large' }, table.title), make('p', { class: 'note' }, say('sort hint')), metrics > 1 && scatter(table),
      make('table', { class: 'sortable' }, make('thead', {}, make('tr', {}, table.head.map(heading))),
        make('tbody', {}, table.rows.slice(0, 1200).map((row) => make('tr', { class: here(row) ? 'chosen' : '', onclick: () => table.go(row) }, row.slice(0, -1).map((value, n) => make('td', {}, n === 2 ? make('button', { class: 'go', 'aria-pressed': here(row), 'aria-label': say('layer head', row[1], value) }, value) : n > 2 ? (Number.isNaN(value) ? '—' : digits(value)) : value)))))),
      metrics > 0 && make('details', {}, make('summary', {}, say('metrics mean')), make('dl', { class: 'meanings' }, table.infos.map((metric, n) => [make('dt', {}, table.head[n + 3]), make('dd', {}, table.about[n + 3], metric.formula && make('code', {}, metric.formula), metric.source && make('small', {}, metric.source))])))));
    let left = -parseFloat(getComputedStyle(host).paddingLeft); // part, layer and head stay where they are when the rest is scrolled
    [...broad.querySelectorAll('th')].slice(0, 3).forEach((th, n) => { broad.style.setProperty(`--c${n}`, `${left}px`); left += th.offsetWidth; });
  }

  let across = 3, upwards = 4;

  // Heads as dots between two metrics.
  function scatter(table) {
    const pick = (now, set, label) => {
      const select = make('select', { 'aria-label': label, onchange: (event) => { set(Number(event.target.value)); showHeads(); } }, table.head.slice(3).map((name, n) => make('option', { value: n + 3 }, name)));
      select.value = now;
      return select;
    };
    [across, upwards] = [across, upwards].map((n) => Math.min(n, table.head.length - 1));
    const points = table.rows.filter((row) => Number.isFinite(row[across]) && Number.isFinite(row[upwards])), span = (n) => {
      const values = points.map((row) => row[n]), low = Math.min(...values), high = Math.max(...values);
      return [low, high > low ? high : low + 1];
    };
    const box = (...inside) => make('details', { open: true }, make('summary', {}, say('scatter')), make('div', { class: 'row' }, pick(upwards, (n) => { upwards = n; }, '↑'), make('span', {}, say('against')), pick(across, (n) => { across = n; }, '→')), inside);
    if (!points.length) return box('—'); // no head has both
    const [[x0, x1], [y0, y1]] = [span(across), span(upwards)], W = 560, H = 240, svg = make('svg', { class: 'scatter', viewBox: `0 0 ${W} ${H}`, role: 'img', 'aria-label': `${table.head[across]}, ${table.head[upwards]}` });
    const X = (v) => 46 + (v - x0) / (x1 - x0) * (W - 66), Y = (v) => H - 28 - (v - y0) / (y1 - y0) * (H - 46);
    svg.append(make('path', { class: 'frame', d: `M46 10V${H - 28}H${W - 20}` }));
    const ends = (a, b) => { // as short as tells them apart
      let n = 2;
      while (n < 9 && a.toPrecision(n) === b.toPrecision(n)) n++;
      return [a, b].map((v) => Number(v.toPrecision(n)));
    };
    const [low, high] = ends(x0, x1), [down, up] = ends(y0, y1);
    for (const [v, x, y, anchor] of [[low, 46, H - 12, 'start'], [high, W - 20, H - 12, 'end'], [down, 42, H - 28, 'end'], [up, 42, 20, 'end']]) svg.append(make('text', { x, y, 'text-anchor': anchor }, v));
    for (const row of points) {
      const on = row.at(-1) === state.call && row[2] === state.head;
      svg.append(make('circle', { cx: X(row[across]), cy: Y(row[upwards]), r: on ? 7 : 4.5, class: on ? 'chosen' : '', onclick: () => table.go(row) }, make('title', {}, `${row[0]} ${say('layer head', row[1], row[2])}`)));
      if (on) svg.append(make('text', { x: X(row[across]) + 10, y: Y(row[upwards]) + 4, class: 'chosen' }, say('layer head', row[1], row[2])));
    }
    return box(svg);
  }

  return { show, rows };
}

// A table as text: tabs between cells, none within.
export function tsv({ head, rows }) {
  return [head, ...rows].map((row) => row.slice(0, head.length).map((cell) => String(cell).replace(/[\t\n\r]/g, ' ')).join('\t')).join('\n') + '\n';
}
