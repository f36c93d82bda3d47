// Why and which: the cell that is looked at in numbers, the strongest links of its row and of its column, with context.

import { digits, fill, grouped, make, token } from './dom.js';
import { css, rgb } from './colour.js';
import { apart, current, pin, preview, state } from './state.js';
import { picturesOf } from './panel.js';
import { plain } from './tokens.js';
import { much, plainly, say, unit } from './say.js';

const FEW = 8, AROUND = 3;

export function createInspector(host, app) {
  const readout = make('div', { class: 'readout', id: 'readout', role: 'status', 'aria-live': 'polite', 'aria-atomic': 'true' });
  const keys = make('section', { class: 'links' }), queries = make('section', { class: 'links' }), cell = make('section', { class: 'cell' });
  const acts = make('div', { class: 'acts' }), on = make('section', { class: 'on' });
  const about = make('section', { class: 'about' });
  fill(host, readout, on, keys, queries, cell, acts, about);
  let turn = 0, all = { key: false, query: false }, timer = 0, last = {};

  const word = (ruler, i) => token(ruler.label(i), { class: ruler.signs.has(i) ? 'sign' : '' });

  function sides() {
    const scene = app.shown();
    return [scene, ...scene.axes(state.call)];
  }

  async function show() {
    clearTimeout(timer);
    const local = app.shown().small(state.call);
    timer = setTimeout(draw, local ? 0 : 70);
  }

  async function draw() {
    const now = current(), mine = ++turn, [scene, rows, columns] = sides(), several = app.chosen().length > 1, { queries: T, keys: S } = scene.calls[state.call];
    if (now.query >= T) now.query = -1;
    if (now.key >= S) now.key = -1;
    for (const [ruler, at] of [[rows, now.query], [columns, now.key]]) if (at >= 0) await ruler.load(at - AROUND, at + AROUND);
    const ask = (kind, at) => at < 0 ? null : several || state.side === 'd' ? app.strongest(scene, kind, at) : scene.strongest(kind, state.call, state.head, app.weighting(), at);
    const [row, column] = await Promise.all([ask('row', now.query), ask('column', now.key)]);
    const numbers = now.query >= 0 && now.key >= 0 && !several && state.side !== 'd' ? await scene.cell(state.call, state.head, now.query, now.key) : null;
    for (const [found, ruler] of [[row, columns], [column, rows]]) for (const [i] of found?.links ?? []) await ruler.load(i - AROUND, i + AROUND);
    if (mine !== turn) return;
    const value = await valueOf(scene, now, row, column, numbers);
    if (mine !== turn) return;
    last = { now, row, column, numbers, value, rows, columns };
    app.level(value);
    say_it(now, row, value, rows, columns, scene);
    const none = now.query < 0 && now.key < 0, best = none ? await strongestOf(scene) : null;
    if (mine !== turn) return;
    if (best?.length) overall(best, rows, columns);
    else list(keys, 'key', row, columns, now, rows);
    list(queries, 'query', column, rows, now, columns);
    figures(numbers, value);
    following();
  }

  // The strongest links of the whole head, one a row: where to begin.
  async function strongestOf(scene) {
    const picture = state.side === 'd' ? app.parts.picture : null;
    if (picture?.both) {
      const found = [];
      picture.data.forEach((w, n) => w && found.push([picture.rowAt(Math.floor(n / picture.S)), picture.columnAt(n % picture.S), w]));
      return found.sort((a, b) => Math.abs(b[2]) - Math.abs(a[2])).slice(0, FEW + 2);
    }
    const matrix = await app.mean(scene);
    if (!matrix) return null;
    const { T, S, data } = matrix, best = [];
    for (let i = 0; i < T; i++) {
      let top = 0, sees = 0;
      for (let j = 0; j < S && sees < 2; j++) if (!scene.barred(state.call, i, j) && !(state.sinks && scene.sink(state.call, j))) sees++;
      if (sees < 2 && state.weighting !== 4) continue; // whoever sees one looks at it
      for (let j = 1; j < S; j++) if (Math.abs(data[i * S + j]) > Math.abs(data[i * S + top])) top = j;
      best.push([i, top, data[i * S + top]]);
    }
    return Object.assign(best.filter(([, , w]) => w).sort((a, b) => Math.abs(b[2]) - Math.abs(a[2])).slice(0, FEW + 2), { fewer: best.length < T });
  }

  function overall(best, rows, columns) {
    keys.hidden = false;
    fill(keys, make('h2', {}, say(state.side === 'd' ? 'strongest change' : 'strongest here')), best.fewer && make('p', { class: 'fine' }, say('trivial rows')), make('ol', {}, best.map(([i, j, w]) => make('li', {}, make('button', { class: 'link', onclick: () => pin({ query: i, key: j }) },
      make('span', { class: 'label' }, make('b', { class: 'query' }, word(rows, i)), ' → ', make('b', { class: 'key' }, word(columns, j))), make('span', { class: 'number' }, much(w)))))));
  }

  async function valueOf(scene, now, row, column, numbers) {
    if (now.query < 0 || now.key < 0) return undefined;
    const both = state.side === 'd' ? app.both(now.query, now.key) : null;
    if (both) return both[0] - both[1];
    const matrix = await app.mean(scene);
    if (matrix) return matrix.data[now.query * matrix.S + now.key];
    const found = row?.links.find(([i]) => i === now.key) ?? (column?.plain ? null : column?.links.find(([i]) => i === now.query));
    if (found) return found[1];
    return state.weighting || state.sinks ? undefined : numbers?.values[numbers.shape[1] * 2 + 4];
  }

  function say_it(now, row, value, rows, columns, scene) {
    if (now.query < 0 && now.key < 0) {
      return fill(readout, make('p', { class: 'start' }, say('start', unit(rows))));
    }
    const who = now.query >= 0 && make('b', { class: 'query' }, word(rows, now.query)), whom = now.key >= 0 && make('b', { class: 'key' }, word(columns, now.key));
    const barred = now.query >= 0 && now.key >= 0 && scene.barred(state.call, now.query, now.key), hidden = now.key >= 0 && state.sinks && scene.sink(state.call, now.key);
    if (who && whom) {
      const rank = row?.links.findIndex(([i]) => i === now.key);
      fill(readout, make('p', { class: 'said' }, who, ` ${say('looks at')} `, whom),
        make('p', { class: 'big' }, barred ? '—' : hidden ? '—' : value === undefined || Number.isNaN(value) ? (row?.links.length > 1 ? `< ${plainly(Math.abs(row.links.at(-1)[1]))}` : '—') : much(value)),
        make('p', { class: 'fine' }, barred ? say('barred') : hidden ? say('is hidden') : state.side === 'd' ? (Number.isNaN(value) ? say('in one only') : (app.both(now.query, now.key) ?? []).map((w, n) => `${'AB'[n]} ${state.weighting === 4 ? much(w) : plainly(w)}`).join(' · ')) : value === undefined ? say('beyond 64') : [app.measure(), rank >= 0 ? ` · ${say('rank', rank + 1, grouped(columns.count))}` : '']));
    } else if (who) {
      const best = row?.links[0];
      fill(readout, make('p', { class: 'said' }, who, ` ${say(apart() ? 'strongest of' : 'looks most at')} `, best ? make('b', { class: 'key' }, word(columns, best[0])) : '—'),
        make('p', { class: 'big' }, best ? much(best[1]) : '—'), make('p', { class: 'fine' }, app.measure()));
    } else {
      fill(readout, make('p', { class: 'said' }, whom, ` ${say('is looked at')}`), make('p', { class: 'fine' }, app.measure()));
    }
  }

  // A word within its neighbours.
  function context(ruler, i) {
    if (ruler.kind === 'patches') return crop(ruler, i);
    if (ruler.kind !== 'words') return null;
    const part = (from, to) => Array.from({ length: Math.max(0, to - from) }, (_, n) => plain(ruler.label(from + n)).replace(/^‹LF›$/, '¶'));
    const before = part(Math.max(0, i - AROUND), i), after = part(i + 1, Math.min(ruler.count, i + AROUND + 1));
    const glue = /[\u3040-\u9fff]/.test(before.concat(after).join('')) ? '' : ' ';
    return make('span', { class: 'context', dir: 'auto' }, before.join(glue), glue, make('em', {}, plain(ruler.label(i))), glue, after.join(glue));
  }

  // A patch with its neighbours.
  function crop(ruler, i) {
    const { part } = ruler, at = i - (part.before ?? 0), canvas = make('canvas', { class: 'crop', width: 56, height: 56, 'aria-hidden': 'true' });
    if (at < 0) return null;
    ruler.image ??= picturesOf(ruler);
    ruler.image.then((image) => {
      if (!image) return;
      const [w, h] = [image.width / part.columns, image.height / part.rows], context = canvas.getContext('2d');
      context.drawImage(image, (at % part.columns - 1) * w, (Math.floor(at / part.columns) - 1) * h, 3 * w, 3 * h, 0, 0, 56, 56);
      context.strokeStyle = '#fff';
      context.lineWidth = 2;
      context.strokeRect(19, 19, 18, 18);
    });
    return canvas;
  }

  function list(section, kind, found, ruler, now, other) {
    const at = kind === 'key' ? now.query : now.key;
    section.hidden = at < 0;
    if (at < 0) return;
    if (!found?.links.length && (!found || state.side === 'd')) return fill(section, make('p', { class: 'fine' }, say(found ? 'no difference' : 'not kept')));
    const pull = apart(), most = found.links[0]?.[1] || 1, links = all[kind] ? found.links : found.links.slice(0, FEW);
    const title = kind === 'key' ? [make('b', { class: 'query' }, word(other, at)), ` ${say('looks at')}`] : [say('who looks at'), ' ', make('b', { class: 'key' }, word(other, at))];
    const summary = kind === 'key' ? say(pull ? 'hold signed' : 'hold', grouped(found.held), grouped(ruler.count), unit(ruler, ruler.count)) : say(pull ? 'received signed' : 'received', pull ? much(found.sum) : digits(found.sum), grouped(found.held)) + (found.plain ? ` · ${say('by plain')}` : '');
    fill(section, make('h2', {}, title), make('p', { class: 'fine' }, summary),
      make('ol', {}, links.map(([i, w]) => make('li', {}, make('button', {
        class: `link ${ruler.kind === 'patches' ? 'cropped' : ''}`, 'aria-pressed': i === (kind === 'key' ? now.key : now.query),
        onclick: () => pin(kind === 'key' ? { query: at, key: i } : { query: i, key: at }),
        onpointerenter: () => kind === 'key' ? markOnly(at, i) : markOnly(i, at),
      }, make('span', { class: 'label' }, word(ruler, i), ruler.count > 200 && ruler.kind === 'words' ? make('small', {}, ` ${grouped(i)}`) : null), context(ruler, i), make('span', { class: 'meter' }, make('i', { style: { width: `${Math.abs(w / most) * 100}%`, background: css(rgb(w, state.scale, pull)) } })), make('span', { class: 'number' }, much(w)))))),
      found.links.length > FEW && make('button', { class: 'quiet more', onclick: () => { all[kind] = !all[kind]; list(section, kind, found, ruler, now, other); } }, all[kind] ? say('fewer') : say('more', found.links.length)));
  }

  // Show a link in the picture without rewriting the list under the pointer.
  function markOnly(query, key) {
    app.glance(query, key);
  }

  function figures(numbers, value) {
    cell.hidden = !numbers;
    if (!numbers) return;
    const K = numbers.shape[1], v = numbers.values, [scale, bias, score, lse, weight, norm, slope] = v.subarray(2 * K);
    const products = Array.from({ length: K }, (_, n) => v[n] * v[K + n]), dot = products.reduce((a, b) => a + b, 0);
    const most = Math.max(...products.map(Math.abs)) || 1;
    const line = (name, value, hint) => [make('dt', { title: hint }, name), make('dd', {}, value)];
    const bars = make('svg', { class: 'products', viewBox: `0 0 ${K * 4} 44`, preserveAspectRatio: 'none', role: 'img', 'aria-label': say('products', K) });
    products.forEach((p, n) => bars.append(make('rect', { x: n * 4, y: p > 0 ? 22 - p / most * 21 : 22, width: 3, height: Math.max(0.5, Math.abs(p) / most * 21), class: p > 0 ? 'more' : 'less' })));
    fill(cell, make('h2', {}, say('numbers')), make('dl', {}, line('q·k', digits(dot), say('about dot')), line(say('scale'), `× ${digits(scale)}`), bias ? line(say('bias'), Number.isNaN(bias) ? say('a function') : `+ ${digits(bias)}`) : [], line(say('score'), digits(score)), line('log Σ exp', digits(lse), say('about lse')), line(say('weight'), `exp(${digits(score)} − ${digits(lse)}) = ${digits(weight)}`), line(say(app.scene.calls[state.call].norms_after ? 'norm after' : 'norm'), digits(norm)), app.scene.calls[state.call].gradients ? line(say('gradient'), digits(slope)) : []),
      make('p', { class: 'fine' }, say('products', K)), bars);
  }

  // From the cell to its nine stations.
  function following() {
    const { why, open } = app.parts.follow, not = why();
    fill(on, make('button', { class: 'quiet', disabled: Boolean(not), onclick: open }, say('follow'), ' ', make('kbd', {}, 'l')), not && make('p', { class: 'fine' }, not));
  }

  function actions() {
    const act = (name, go, hint) => make('button', { onclick: go, title: hint }, say(name));
    fill(acts, make('h2', {}, say('take along')), make('div', { class: 'buttons' }, act('copy numbers', () => app.copy(text())), act('as table', () => app.open('table')), act('TSV', () => app.save('tsv')), act('SVG', () => app.save('svg')), act('PNG', () => app.save('png'))));
    const { info } = app.scene, call = app.shown().calls[state.call];
    fill(about, make('details', {}, make('summary', {}, say('why')), say('why text').split('\n').map((line) => make('p', {}, line))),
      make('details', {}, make('summary', {}, say('provenance')), make('dl', {}, [[say('module'), call.name], [say('kernel'), `${call.kernel} (${call.route})`], [say('exactness'), call[`exactness_${app.language()}`] ?? call.exactness], ['torch', info.torch], [say('captured'), say('calls', info.calls.length, info.missed.length)], ...(info.batch > 1 ? [[say('batch'), say('one of', state.row + 1, info.batch)]] : [])].map(([k, v]) => [make('dt', {}, k), make('dd', {}, v)])),
        info.missed.length ? make('ul', {}, info.missed.map((m) => make('li', {}, `${m.name}: ${m.reason}`))) : null,
        info.left_out?.length ? [make('h3', {}, say('left out')), make('ul', {}, info.left_out.map((what) => make('li', {}, what[`what_${app.language()}`] ?? what.what_en ?? String(what))))] : null));
  }

  // What is read out, as text to paste elsewhere.
  function text() {
    const { now, row, column, numbers, value, rows, columns } = last, lines = [app.sentence()];
    if (!rows) return lines.join('\n');
    if (now.query >= 0 && now.key >= 0) lines.push(`${rows.label(now.query)} [${now.query}] → ${columns.label(now.key)} [${now.key}]\t${value ?? ''}`);
    if (row) lines.push('', `${rows.label(now.query)} [${now.query}] →`, ...row.links.map(([i, w]) => `${i}\t${columns.label(i)}\t${w}`));
    if (column) lines.push('', `→ ${columns.label(now.key)} [${now.key}]`, ...column.links.map(([i, w]) => `${i}\t${rows.label(i)}\t${w}`));
    if (numbers) lines.push('', ...['scale', 'bias', 'score', 'lse', 'weight', 'norm'].map((name, n) => `${name}\t${numbers.values[numbers.shape[1] * 2 + n]}`));
    return lines.join('\n');
  }

  return { show, actions, reset: () => { all = { key: false, query: false }; }, preview };
}
