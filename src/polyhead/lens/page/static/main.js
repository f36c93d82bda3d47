// The page: three regions that never move, one selection, one sentence that says what is shown.

import { digits, fill, grouped, make, repaint, token } from './dom.js';
import { ANSWERS, get, Kept, numbers, ranked, remember, Scene, weights } from './data.js';
import { address, apart, begin, canRedo, canUndo, current, hover, listen, pin, preview, redo, state, undo } from './state.js';
import { language, partName, say, told, unit } from './say.js';
import { peak, reach } from './colour.js';
import { createMap, legend } from './map.js';
import { bandOf, farthest } from './band.js';
import { createLines } from './lines.js';
import { createStage } from './stage.js';
import { createAtlas } from './atlas.js';
import { createInspector } from './inspect.js';
import { createTable, tsv } from './table.js';
import { createFinder, createHelp } from './dialogs.js';
import { aligned } from './align.js';
import { createFollow } from './follow.js';
import { shown } from './tokens.js';
import { across, wordByWord } from './words.js';

const root = document.getElementById('page');
let scenes = [], worded = []; // the recordings piece by piece and, where that can be had, word by word
const shownNow = () => state.by === 'words' && worded.length ? worded : scenes;
const app = { get scene() { return shownNow()[0] ?? null; }, get second() { return shownNow()[1] ?? null; }, language, address };
app.first = new Promise((done) => { app.painted = done; }); // when there is a picture; the small ones wait for it
let parts = {}, why = '', rowOpen = 0, drawn = '', drawTurn = 0;

// ---- what is chosen

app.shown = () => state.side === 'b' && app.second ? app.second : app.scene;
app.weighting = () => state.weighting | (state.sinks ? 2 : 0);
app.language = language;
app.titleOf = (ruler) => ruler.part.title ? ` ${told(ruler.part.title)}` : ruler.name in { encoder: 1, decoder: 1 } ? ` ${partName(ruler.name)}` : '';

app.chosen = () => {
  const { calls } = app.scene, here = calls[state.call], same = (call) => call && ['rows', 'columns', 'queries', 'keys'].every((name) => call[name] === here[name]);
  const found = state.heads.split(',').map((name) => name.split('.').map(Number)).filter(([c, h]) => same(calls[c]) && h >= 0 && h < calls[c].heads);
  return found.length > 1 ? found : [[state.call, state.head]];
};

app.pieces = () => { if (state.by) byWords(); };
app.joined = () => app.scene.axes(state.call).some((ruler) => ruler.spans);

// Words instead of pieces, or pieces again, of the same place.
function byWords() {
  if (!worded.length) return why && app.tell(say(why));
  const by = state.by ? '' : 'words', [from, to] = by ? [scenes, worded] : [worded, scenes];
  pin({ by, ...across(state.call, state.query, state.key, from[0], to[0]) });
}

// The matrices of the chosen heads; null where one cannot be had.
app.each = async (scene, weighting = app.weighting(), heads = app.chosen()) => {
  const all = await Promise.all(heads.map(([c, h]) => scene.matrix(c, h, weighting)));
  return all.every(Boolean) ? all : null;
};

// Their mean [T, S]; of a difference, in the places of A, NaN where B has none.
app.mean = async (scene, heads = app.chosen()) => state.side === 'd' ? (await compared(heads))?.here ?? null : meanOf(scene, heads);

async function meanOf(scene, heads) {
  const all = await app.each(scene, app.weighting(), heads);
  if (!all || all.length === 1) return all?.[0] ?? null;
  const { T, S } = all[0], data = new Float32Array(T * S);
  for (const one of all) for (let n = 0; n < T * S; n++) data[n] += one.data[n] / all.length;
  return { T, S, data, exact: all.every((one) => one.exact), signed: all[0].signed };
}

// The strongest links in the mean of several heads.
app.strongest = async (scene, kind, at) => {
  const mean = await app.mean(scene);
  if (!mean) return state.side === 'd' ? null : scene.strongest(kind, state.call, state.head, app.weighting(), at);
  const { T, S, data } = mean, line = kind === 'row' ? data.subarray(at * S, (at + 1) * S) : data.filter((_, n) => n % S === at);
  return kind === 'row' ? ranked(line) : ranked(line, T);
};

app.metrics = async () => {
  if (state.order === 'layer') await app.first;
  return [await app.scene.metrics(), app.scene.info.metrics ?? []];
};

const NAMED_SO = { 0: 'by weight', 1: 'by norm', 4: 'by gradient' };
const sinksSo = (name) => say(name, say(app.scene.calls[state.call].kind === 'self' && !app.scene.axes(state.call)[1].part.before ? 'self' : 'special')); // of patches the first is [CLS]
const hiddenSo = () => state.sinks ? sinksSo(state.weighting === 4 ? 'sinks kept' : 'sinks hidden') : '';
app.measure = () => [say(NAMED_SO[state.weighting]), hiddenSo()].filter(Boolean).join(' · ');

// What gradients are of, in this language.
const aim = () => shown(told(app.scene.info.target ?? {}).slice(0, 200)).replaceAll('·', ' ');
const aimed = () => Boolean(app.scene.info.target?.there);

// The permanent sentence: what is shown, by whom to whom, in which measure.
app.sentence = () => {
  const view = viewNow(), here = !onMap(view) && !['lines', 'table'].includes(view); // in the input itself
  const scene = app.scene, call = scene.calls[state.call], [rows, columns] = scene.axes(state.call), chosen = app.chosen();
  const head = chosen.length > 1 ? say('mean of', chosen.length) : say('layer head', call.layer, state.head);
  const ends = language() === 'zh' ? ['：', '；', '。'] : [': ', '; ', '.'];
  if (view === 'heads') return [say('heads are'), app.second && say('is first')].filter(Boolean).join(ends[1]) + ends[2];
  const how = [state.weighting === 4 ? say('is gradient', aim()) : say(state.weighting ? 'is norm' : 'is weight'), hiddenSo(), state.side === 'b' ? say('is second') : state.side === 'd' ? say(here ? 'is difference here' : 'is difference') : ''].filter(Boolean);
  if (app.joined()) how.push(say(state.weighting === 4 ? 'pieces added' : 'pieces joined'));
  const said = `${partName(call.part)} ${head}${ends[0]}${view === 'distance' ? say('band is', unit(rows), farthest(rows)) : here && state.query < 0 && state.key < 0 && app.shown().small(state.call) ? say('none chosen', unit(columns), say(state.weighting === 4 ? 'in all' : 'on average')) : say('row is', unit(rows), unit(columns))}${ends[1]}${how.join(ends[1])}${ends[2]}`;
  return said[0].toUpperCase() + said.slice(1);
};

// What the map shows: the weights if they can be held, tiles otherwise, or the difference of two recordings.
async function pictureNow(view) {
  const scene = app.shown(), call = scene.calls[state.call], [rows, columns] = scene.axes(state.call);
  const labels = Promise.all([rows.load(0, Math.min(rows.count, 400)), columns.load(0, Math.min(columns.count, 400))]);
  if (scene.small(state.call)) await labels;
  else labels.then(() => parts.map.resize()); // numbers stand along its axes, so the picture does not wait
  const name = `${scene.prefix}${state.call}/${app.weighting()}/${state.by}`;
  const base = {
    name, T: call.queries, S: call.keys, causal: call.causal, rows, columns, rowTitle: app.titleOf(rows), columnTitle: app.titleOf(columns),
    rowLabel: (i) => rows.label(i), columnLabel: (j) => columns.label(j), rowOf: (i) => i < call.queries ? i : -1, columnOf: (j) => j < call.keys ? j : -1, rowAt: (i) => i, columnAt: (j) => j,
    rowFaint: (i) => rows.signs.has(i), columnFaint: (j) => columns.signs.has(j) || (state.sinks && scene.sink(state.call, j)),
    apart: state.weighting === 4,
    barred: (i, j) => scene.barred(state.call, i, j), hidden: (j) => Boolean(state.sinks) && scene.sink(state.call, j),
  };
  if (state.side === 'd' && app.second) return difference(base);
  const mean = await app.mean(scene);
  if (view === 'distance') return bandOf(base, mean, () => scene.small(state.call) ? null : scene.sampled('band', state.call, state.head, app.weighting()));
  if (mean) return { ...base, data: mean.data, exact: mean.exact };
  if (scene.small(state.call) && (!ANSWERS || view !== 'map' || app.joined() || app.chosen().length > 1)) return { ...base, absent: true, data: null };
  const thumbs = await scene.thumbs(state.call);
  const [, r, c] = thumbs?.shape ?? [0, 0, 0], small = thumbs && { rows: r, columns: c, values: weights(thumbs).subarray(state.head * r * c, (state.head + 1) * r * c) };
  if (!scene.known(state.call)) return { ...base, data: null, thumb: small };
  const weighting = scene.info.sinks ? app.weighting() : app.weighting() & 5, tile = (level, i, j) => scene.path('tile', state.call, state.head, weighting, level, i, j);
  const top = ANSWERS || base.apart ? await get(tile(Math.max(0, Math.ceil(Math.log2(Math.max(call.queries, call.keys) / 256))), 0, 0)) : 1;
  if (!top && weighting) return { ...base, absent: true, data: null }; // the small picture is of plain weights
  return {
    ...base, data: null, name: `${name}/${state.head}`, thumb: weighting && (ANSWERS || base.apart) ? null : small, most: base.apart && numbers(top).most, tile: top && tile,
  };
}

// What heads are in A and in B, and how their places lie side by side; null where one of the two cannot be had.
const differences = new Kept(64);
const compared = (heads) => differences.get([rowOpen, state.by, app.weighting(), heads, scenes.length].join('/'), async () => {
  const [a, b] = await Promise.all([app.scene, app.second].map((scene) => meanOf(scene, heads)));
  if (!a || !b) return null;
  const [call] = heads[0], [r, c] = app.scene.axes(call);
  const merge = async (mine, other) => {
    await Promise.all([mine.load(0, mine.count), other.load(0, other.count)]);
    return aligned(Array.from({ length: mine.count }, (_, i) => mine.label(i)), Array.from({ length: other.count }, (_, i) => other.label(i)));
  };
  const [r2, c2] = app.second.axes(call), rows = await merge(r, r2), columns = r === c ? rows : await merge(c, c2), T = rows.length, S = columns.length;
  const data = new Float32Array(T * S).fill(NaN), here = { ...a, data: new Float32Array(a.T * a.S).fill(NaN) };
  rows.forEach(([i, k], n) => columns.forEach(([j, l], m) => {
    if (i >= 0 && k >= 0 && j >= 0 && l >= 0) here.data[i * a.S + j] = data[n * S + m] = a.data[i * a.S + j] - b.data[k * b.S + l];
  }));
  return { a, b, r2, c2, rows, columns, T, S, data, here };
});

async function difference(base) {
  const found = await compared(app.chosen());
  if (!found) return { ...base, absent: true, data: null };
  const { a, b, r2, c2, rows, columns, T, S, data } = found;
  const label = (mine, other, pairs) => (n) => pairs[n][0] >= 0 ? (pairs[n][1] < 0 ? 'A ' : '') + mine.label(pairs[n][0]) : 'B ' + other.label(pairs[n][1]);
  const both = (query, key) => {
    const k = rows.find(([i]) => i === query)?.[1], l = columns.find(([j]) => j === key)?.[1];
    return k >= 0 && l >= 0 ? [a.data[query * a.S + key], b.data[k * b.S + l]] : [NaN, NaN];
  };
  return {
    ...base, name: base.name + '/d', T, S, data, both, apart: true, rowLabel: label(base.rows, r2, rows), columnLabel: label(base.columns, c2, columns),
    rowOf: (i) => i < 0 ? -1 : rows.findIndex(([k]) => k === i), columnOf: (j) => j < 0 ? -1 : columns.findIndex(([k]) => k === j), rowAt: (i) => rows[i][0], columnAt: (j) => columns[j][0],
    rowFaint: (i) => rows[i].includes(-1), columnFaint: (j) => columns[j].includes(-1), hidden: (j) => columns[j][0] >= 0 && base.hidden(columns[j][0]),
    barred: (i, j) => rows[i][0] >= 0 && columns[j][0] >= 0 && base.barred(rows[i][0], columns[j][0]),
  };
}

// ---- views

function viewsNow() {
  const [rows, columns] = app.scene.axes(state.call), kinds = [rows.kind, columns.kind];
  const worded = kinds.every((kind) => kind === 'words');
  const where = kinds.includes('frames') ? 'sound' : kinds.includes('patches') ? 'picture' : 'text';
  if (state.side === 'd' && [app.scene, app.second].some((scene) => !scene.small(state.call))) return ['map'];
  const { causal, kind } = app.scene.calls[state.call], back = causal && kind === 'self' && state.side !== 'd' && app.scene.known(state.call) && (state.weighting !== 4 || app.scene.small(state.call));
  return ['map', back && 'distance', worded && app.scene.small(state.call) && 'lines', where, 'table'].filter(Boolean);
}

function viewNow() {
  if (state.view === 'heads') return 'heads';
  const views = viewsNow();
  if (views.includes(state.view)) return state.view;
  const { part, queries, keys } = app.scene.calls[state.call];
  const short = queries * keys <= 10000;
  return views.includes('lines') ? (part === 'cross' && short ? 'lines' : 'map') : views.find((view) => view === 'picture' || view === 'sound') ?? 'map';
}
app.view = viewNow;
const onMap = (view) => view === 'map' || view === 'distance';

app.open = (view) => pin({ view });
app.tell = (text) => {
  parts.toast.textContent = text;
  parts.toast.classList.add('up');
  clearTimeout(app.toast);
  app.toast = setTimeout(() => parts.toast.classList.remove('up'), 2600);
};
app.glance = (query, key) => preview(query, key);
app.level = (value) => legend(parts.legend, apart() || (viewNow() === 'text' && 'text'), value);

// The sides of a difference: what A and B give a cell of the picture, both NaN where it stands in one only.
app.both = (query, key) => parts.picture?.both?.(query, key);
const inSteps = () => `${say('cell weight')}, ${say('tiles8')}`;
app.sampled = (how, side) => {
  const text = how === 'summary' ? say('summary only') : how === 'max' ? say('max', grouped(side)) : how === 'exact' ? inSteps() : say('coming');
  if (parts.sampled.textContent !== text) parts.sampled.textContent = text;
};

app.copy = async (text) => {
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    const area = make('textarea', { class: 'away' });
    area.value = text;
    document.body.append(area);
    area.select();
    document.execCommand('copy');
    area.remove();
  }
  app.tell(say('copied'));
};

app.save = async (kind) => {
  const call = app.scene.calls[state.call], name = `${call.part}-layer${call.layer}-head${state.head}`, view = viewNow();
  if (kind === 'tsv') return download(new Blob([tsv(await parts.table.rows())], { type: 'text/tab-separated-values' }), `${name}.tsv`);
  const picture = parts.picture, drawing = view === 'lines' && picture?.data ? parts.lines.svg(app.sentence()) : picture?.data && picture.T * picture.S <= 40000 ? parts.map.svg(picture) : null;
  if (kind === 'svg') {
    if (!drawing) return app.tell(say('no svg'));
    return download(new Blob([new XMLSerializer().serializeToString(drawing)], { type: 'image/svg+xml' }), `${name}.svg`);
  }
  const canvas = onMap(view) ? parts.map.canvas : view === 'sound' || view === 'picture' ? parts.stage.canvas() : null;
  if (canvas) return captioned(canvas).toBlob((blob) => download(blob, `${name}.png`));
  if (!drawing) return app.tell(say('no svg'));
  const image = new Image(), width = Number(drawing.getAttribute('width')), height = Number(drawing.getAttribute('height')), out = make('canvas', { width: width * 2, height: height * 2 });
  const code = btoa(String.fromCharCode(...new TextEncoder().encode(new XMLSerializer().serializeToString(drawing))));
  await new Promise((onload, onerror) => Object.assign(image, { onload, onerror, src: 'data:image/svg+xml;base64,' + code }));
  out.getContext('2d').drawImage(image, 0, 0, width * 2, height * 2);
  out.toBlob((blob) => download(blob, `${name}.png`));
};

// A picture with the sentence that says what it shows.
function captioned(canvas) {
  const ratio = canvas.width / canvas.clientWidth || 1, out = make('canvas', { width: canvas.width, height: canvas.height + 30 * ratio }), context = out.getContext('2d'), style = getComputedStyle(document.body);
  context.fillStyle = style.backgroundColor;
  context.fillRect(0, 0, out.width, out.height);
  context.drawImage(canvas, 0, 30 * ratio);
  context.fillStyle = style.color;
  context.font = `${13 * ratio}px ${style.fontFamily}`;
  context.fillText(app.sentence(), 8 * ratio, 20 * ratio, out.width - 16 * ratio);
  return out;
}

function download(blob, name) {
  const link = make('a', { href: URL.createObjectURL(blob), download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10000);
  app.tell(say('saved', name));
}

// ---- the frame

function build() {
  const chinese = language() === 'zh';
  repaint();
  document.documentElement.lang = chinese ? 'zh-CN' : 'en';
  if (state.theme) document.documentElement.dataset.theme = state.theme;
  else delete document.documentElement.dataset.theme;
  const { info } = app.scene;
  document.title = [titled(info.title).slice(0, 60), 'polyhead'].filter(Boolean).join(' · ');
  const icon = (sign, name, act, more = {}) => make('button', { class: 'icon', 'aria-label': say(name), title: say(name), onclick: act, ...more }, sign);
  parts.undo = icon('↶', 'undo', undo, { class: 'icon past' });
  parts.redo = icon('↷', 'redo', redo, { class: 'icon past' });
  const side = (name, value) => make('button', { 'data-side': value, title: value === 'd' ? say('is difference') : titled((value ? app.second : app.scene).info.title), onclick: () => pin({ side: value }) }, say(name));
  const compare = app.second && make('div', { class: 'segments', role: 'group', 'aria-label': say('compare') }, side('first', ''), side('second', 'b'), side('difference', 'd'));
  const header = make('header', { class: 'top' }, make('a', { class: 'skip', href: '#' , onclick: (event) => { event.preventDefault(); parts.map.canvas.offsetParent ? parts.map.canvas.focus() : parts.middle.focus(); } }, say('skip')),
    make('div', { class: 'brand' }, mark(), make('span', {}, 'polyhead')),
    make('div', { class: 'what-is' }, parts.title = make('h1', { class: 'title' }), make('span', { class: 'model' }, titled(app.scene.info.model))),
    info.batch > 1 && !ANSWERS && make('label', { class: 'pick' }, make('span', {}, say('batch')), make('select', { class: 'row-of', 'aria-label': say('batch'), onchange: (event) => pin({ row: Number(event.target.value) }) }, Array.from({ length: info.batch }, (_, row) => make('option', { value: row, selected: row === rowOpen }, row + 1)))),
    compare, make('div', { class: 'tools' }, parts.undo, parts.redo, icon('⌕', 'find', () => parts.finder.open()), make('button', { class: 'icon wide', lang: chinese ? 'en' : 'zh-CN', onclick: () => pin({ lang: chinese ? 'en' : 'zh' }) }, say('language')), icon('◐', 'theme', () => pin({ theme: isDark() ? 'light' : 'dark' })), icon('?', 'help', () => parts.help.open())));

  const atlasHost = make('nav', { class: 'left', 'aria-label': say('where region') });
  parts.sentence = make('p', { id: 'sentence', class: 'sentence' });
  parts.tabs = make('div', { class: 'segments views', role: 'group', 'aria-label': say('what') });
  parts.weighting = make('div', { class: 'segments', role: 'group', 'aria-label': say('weighting') }, Object.entries(NAMED_SO).map(([value, name]) => make('button', { 'data-weighting': value, 'aria-label': say(name), ...(value === '4' && !aimed() ? { 'aria-disabled': 'true', title: aim(), onclick: () => app.tell(aim()) } : { onclick: () => pin({ weighting: Number(value) }) }) }, say(name).replace(/^.+(?=×)/, ''))));
  parts.sinks = make('input', { type: 'checkbox', onchange: (event) => pin({ sinks: event.target.checked ? 1 : 0 }) });
  parts.by = make('input', { type: 'checkbox', 'aria-disabled': why ? 'true' : null, onclick: (event) => { if (why) event.preventDefault(); byWords(); } });
  make('label', { class: `check ${why ? 'off' : ''}`, title: say(why || 'pieces joined') }, parts.by, say('whole words'));
  parts.scale = make('select', { 'aria-label': say('colours'), onchange: (event) => pin({ scale: event.target.value }) }, ['sqrt', 'linear', 'log'].map((name) => make('option', { value: name }, say(name))));
  parts.hosts = Object.fromEntries(['map', 'lines', 'stage', 'table'].map((name) => [name, make('div', { class: name === 'stage' ? 'stage pane' : `pane ${name}-pane`, ...(name === 'map' ? {} : { tabindex: 0, role: 'group', 'aria-label': say('what region') }) })]));
  parts.legend = make('canvas', { class: 'legend', role: 'img', 'aria-label': say('colours') });
  parts.sampled = make('span', { class: 'sampled', 'aria-live': 'polite' });
  parts.empty = make('p', { class: 'empty', hidden: true }, say('not kept'));
  parts.middle = make('main', { class: 'middle', 'aria-label': say('what region'), tabindex: -1 }, parts.sentence,
    make('div', { class: 'controls' }, parts.tabs, parts.weighting, make('label', { class: 'check' }, parts.sinks, parts.hides = make('span')), parts.by.parentElement),
    parts.panes = make('div', { class: 'panes' }, Object.values(parts.hosts), parts.empty), parts.footer = make('footer', { class: 'scale' }, make('div', { class: 'legend-box' }, parts.legend), make('label', { class: 'pick' }, make('span', {}, say('colours')), parts.scale), parts.sampled));
  const inspectHost = make('aside', { class: 'right', 'aria-label': say('which region') });
  parts.toast = make('div', { class: 'toast', role: 'status' });
  const narrow = make('nav', { class: 'narrow', 'aria-label': say('narrow') }, [['left', 'where'], ['middle', 'what'], ['right', 'which']].map(([region, name]) => make('button', { 'data-region': region, onclick: () => goTo(region) }, say(name))));
  fill(root, header, make('div', { class: 'regions', 'data-region': root.querySelector('.regions')?.dataset.region ?? 'middle' }, atlasHost, parts.middle, inspectHost), narrow, parts.toast);
  parts.narrow = narrow;
  goTo(root.querySelector('.regions').dataset.region);
  parts.map = createMap(parts.hosts.map, app);
  parts.lines = createLines(parts.hosts.lines, app);
  parts.stage = createStage(parts.hosts.stage, app);
  parts.table = createTable(parts.hosts.table, app);
  parts.atlas = createAtlas(atlasHost, app);
  parts.inspector = createInspector(inspectHost, app);
  parts.footer.append(parts.map.zooms);
  watcher.disconnect();
  watcher.observe(parts.panes);
  parts.finder = createFinder(app);
  parts.help = createHelp();
  app.parts = parts;
  parts.follow = createFollow(app, root);
  drawn = '';
  if (info.missed?.length) app.tell(say('missed', info.missed.length));
}

const titled = (text) => text ? shown(text.slice(0, 120)).replaceAll('·', ' ') : '';

// The recording that is shown, or both.
function titleNow() {
  const [a, b] = [app.scene, app.second].map((scene) => token(titled(scene?.info.title)));
  if (!app.second) return a;
  return state.side === 'd' ? ['A ', a, ' − B ', b] : state.side === 'b' ? ['B ', b] : ['A ', a];
}

function goTo(region) {
  root.querySelector('.regions').dataset.region = region;
  for (const button of parts.narrow.children) button.setAttribute('aria-pressed', button.dataset.region === region);
  requestAnimationFrame(() => resized());
}

const isDark = () => (document.documentElement.dataset.theme || (matchMedia('(prefers-color-scheme: dark)').matches ? 'dark' : 'light')) === 'dark';

// The mark: many heads, one of which looks.
function mark() {
  const svg = make('svg', { viewBox: '0 0 20 20', width: 22, height: 22, 'aria-hidden': 'true', class: 'mark' });
  [[0, 0, 0.35], [7, 0, 0.6], [14, 0, 0.25], [0, 7, 0.2], [7, 7, 0.45], [14, 7, 1], [0, 14, 0.7], [7, 14, 0.3], [14, 14, 0.5]].forEach(([x, y, o]) => svg.append(make('rect', { x, y, width: 6, height: 6, rx: 1.6, fill: o === 1 ? 'var(--key)' : 'var(--query)', 'fill-opacity': o })));
  return svg;
}

function show(changed) {
  if (state.row !== rowOpen) {
    const { row } = state;
    sequence(row).catch(() => { rowOpen = row; app.tell(say('not kept')); }).then(() => { build(); show(new Set(['lang', 'order'])); root.querySelector('.row-of')?.focus(); });
    return;
  }
  if (changed.has('lang') || changed.has('theme')) build();
  parts.sentence.textContent = app.sentence();
  parts.undo.disabled = !canUndo();
  parts.redo.disabled = !canRedo();
  const view = viewNow(), pane = { map: 'map', distance: 'map', lines: 'lines', table: 'table', heads: 'table' }[view] ?? 'stage';
  const tabs = view === 'heads' ? [...viewsNow(), view] : viewsNow();
  if (view !== 'heads') app.left = state.view; // to come back to
  if (parts.tabs.dataset.of !== tabs.join() + state.lang) {
    parts.tabs.dataset.of = tabs.join() + state.lang;
    fill(parts.tabs, tabs.map((name) => make('button', { 'data-view': name, onclick: () => pin({ view: name }) }, say(name))));
  }
  for (const button of parts.tabs.children) button.setAttribute('aria-pressed', button.dataset.view === view);
  for (const button of parts.weighting.children) button.setAttribute('aria-pressed', Number(button.dataset.weighting) === state.weighting);
  for (const button of root.querySelectorAll('[data-side]')) button.setAttribute('aria-pressed', button.dataset.side === state.side);
  parts.sinks.checked = Boolean(state.sinks);
  parts.hides.textContent = sinksSo('hide sinks');
  parts.by.checked = app.joined();
  parts.by.parentElement.hidden = !app.scene.axes(state.call).some((ruler) => ruler.kind === 'words') || (!worded.length && !why);
  parts.scale.value = state.scale;
  for (const [name, host] of Object.entries(parts.hosts)) host.hidden = name !== pane;
  parts.map.zooms.hidden = !onMap(view);
  fill(parts.title, titleNow());
  parts.legend.parentElement.hidden = parts.scale.parentElement.hidden = ['lines', 'table', 'heads'].includes(view);
  if (pane !== 'stage') parts.stage.leave();
  parts.atlas.show(changed);
  parts.inspector.show();
  parts.follow.show();
  const what = ['call', 'head', 'heads', 'weighting', 'sinks', 'scale', 'side', 'by', 'lang', 'theme'].map((name) => state[name]).join('/') + view;
  if (what !== drawn) {
    drawn = what;
    parts.inspector.actions();
    parts.sampled.textContent = '';
    app.level();
    paint(view);
  } else if (onMap(view)) parts.map.draw();
  else if (view === 'lines') {
    if (changed.has('query') || changed.has('key')) parts.lines.show(parts.picture);
    parts.lines.draw();
  } else if (pane === 'stage') parts.stage.draw();
  else if (!changed.has('hover') || changed.size > 1) parts.table.show(view);
  if ((changed.has('query') || changed.has('key')) && (state.query >= 0 || state.key >= 0)) {
    if (onMap(view) && parts.picture) parts.map.reveal(state);
    if (pane === 'stage' && app.byKey) parts.stage.reveal(state.query, state.key);
  }
}

async function paint(view) {
  const turn = ++drawTurn;
  parts.empty.hidden = true;
  try {
    const picture = await pictureNow(view);
    setTimeout(app.painted, 50);
    if (turn !== drawTurn) return;
    parts.picture = picture;
    reach(state.weighting !== 4 ? 1 : picture.most ?? picture.data?.reduce((most, w) => Math.max(most, Math.abs(w) || 0), 0));
    app.level();
    if (picture.both) parts.inspector.show(); // of whose differences it tells
    parts.empty.hidden = !picture.absent || (!onMap(view) && view !== 'lines');
    if (picture.data && (onMap(view) || view === 'lines' || view === 'table' || state.side === 'd') && view !== 'heads') parts.sampled.textContent = state.side === 'd' ? `${say('more in a')} · ${say('more in b')}` : state.weighting === 4 && onMap(view) ? say('signed cells', digits(peak())) : picture.said ? picture.said : app.joined() ? say('word cells') : picture.exact ? say('exact') : inSteps();
    if (onMap(view)) parts.map.show(picture.absent ? null : picture);
    else if (view === 'lines') parts.lines.show(picture);
    else if (view === 'table' || view === 'heads') parts.table.show(view);
    else await parts.stage.show();
    root.dataset.ready = String(turn);
  } catch (error) {
    parts.empty.hidden = false;
    parts.empty.textContent = say('failed', error.message);
    console.error(error);
  }
}

const watcher = new ResizeObserver(() => resized());

function resized() {
  if (!app.scene || !parts.map) return;
  const view = viewNow();
  if (onMap(view)) parts.map.resize();
  else if (view === 'lines') parts.lines.resize();
  else if (!['table', 'heads'].includes(view)) parts.stage.resize();
  app.level();
}

// ---- keys

function move(dr, dc, times) {
  const call = app.shown().calls[state.call], now = { query: state.query, key: state.key };
  if (viewNow() === 'distance') {
    [dr, dc] = [dc, dc - dr]; // along the distance, or nearer and farther
    if (now.key < 0 && now.query >= 0) now.key = now.query + call.keys - call.queries;
  }
  const query = now.query < 0 ? 0 : Math.max(0, Math.min(call.queries - 1, now.query + dr * times));
  const key = now.key < 0 ? (now.query < 0 || dc ? 0 : -1) : Math.max(0, Math.min(call.keys - 1, now.key + dc * times));
  app.byKey = true;
  pin({ query, key });
}

// The head before or after, through all layers; the same head a layer up or down, in the same part first.
function nextHead(by) {
  const { heads } = app.scene.calls[state.call], head = state.head + by;
  if (head >= 0 && head < heads) return pin({ head, heads: '' });
  nextLayer(by, by > 0 ? 0 : -1);
}

function nextLayer(by, head = state.head) {
  const { calls } = app.scene, here = calls[state.call], same = calls.map((call, id) => [call, id]).filter(([call]) => call.step === here.step);
  const at = same.findIndex(([, id]) => id === state.call), next = same[at + by];
  if (!next) return;
  const [call, id] = next, kept = call.rows === here.rows && call.columns === here.columns;
  pin({ call: id, head: head < 0 ? call.heads - 1 : Math.min(head, call.heads - 1), heads: '', ...(kept ? {} : { query: state.query < call.queries && call.rows === here.rows ? state.query : -1, key: -1 }) });
}

addEventListener('keydown', (event) => {
  if (!app.scene || document.querySelector('dialog[open]')) return;
  const at = event.target;
  if ((event.ctrlKey || event.metaKey) && !event.altKey && event.key.toLowerCase() === 'z') {
    event.preventDefault();
    return event.shiftKey ? redo() : undo();
  }
  if ((event.ctrlKey || event.metaKey) && event.key.toLowerCase() === 'y') {
    event.preventDefault();
    return redo();
  }
  if (event.ctrlKey || event.metaKey || event.altKey || at.matches?.('select, textarea, input:not([type=checkbox])')) return;
  if (state.station) return event.key === 'Escape' && parts.follow.close(); // the stations have keys of their own
  const times = event.shiftKey ? 10 : 1;
  const scrolls = at.closest?.('.right, .table-pane, .left');
  const acts = {
    ArrowUp: () => scrolls ? false : move(-1, 0, times), ArrowDown: () => scrolls ? false : move(1, 0, times), ArrowLeft: () => scrolls ? false : move(0, -1, times), ArrowRight: () => scrolls ? false : move(0, 1, times),
    '[': () => nextHead(-1), ']': () => nextHead(1), ',': () => nextLayer(-1), '.': () => nextLayer(1),
    l: () => parts.follow.open(), '/': () => parts.finder.open(), '?': () => parts.help.open(), Escape: () => state.view === 'heads' ? pin({ view: app.left ?? '' }) : hover.query >= 0 || hover.key >= 0 ? preview(-1, -1) : pin({ query: -1, key: -1 }),
    j: byWords, w: () => pin({ weighting: state.weighting === 1 ? (aimed() ? 4 : 0) : state.weighting ? 0 : 1 }), s: () => pin({ sinks: state.sinks ? 0 : 1 }), p: () => parts.stage.play(),
    v: () => { const views = viewsNow(); pin({ view: views[(views.indexOf(viewNow()) + 1) % views.length] }); },
  };
  const act = acts[event.key];
  if (act && act() !== false) event.preventDefault();
});
addEventListener('pointerdown', () => { app.byKey = false; });

// ---- begin

addEventListener('unhandledrejection', (event) => {
  event.preventDefault();
  console.error(event.reason);
  if (app.scene) app.tell(say('failed', event.reason?.message ?? String(event.reason)));
});

function mended(found) {
  const next = { ...found, row: Math.max(0, Math.min(found.row, scenes[0].info.batch - 1)), by: found.by === 'words' && worded.length ? 'words' : '' }, { calls } = (next.by ? worded : scenes)[0];
  if (!calls[next.call]) next.call = 0;
  next.head = Math.max(0, Math.min(next.head, calls[next.call].heads - 1));
  if (next.query >= calls[next.call].queries) next.query = -1;
  if (next.key >= calls[next.call].keys) next.key = -1;
  next.weighting = next.weighting === 4 ? (scenes[0].info.target?.there ? 4 : 1) : next.weighting ? 1 : 0;
  next.sinks = next.sinks ? 1 : 0;
  next.station = Math.max(0, Math.min(9, next.station));
  if (!['sqrt', 'linear', 'log'].includes(next.scale)) next.scale = 'sqrt';
  if (!['', 'light', 'dark'].includes(next.theme)) next.theme = '';
  if (!['', 'b', 'd'].includes(next.side) || (next.side && !scenes[1])) next.side = '';
  return next;
}

// The first head one sees: of a translation, the last layer in which it looks at the source.
async function opening() {
  const { calls } = app.scene, cross = calls.map((call, id) => [call, id]).filter(([call]) => call.part === 'cross');
  const long = calls[0].queries * calls[0].keys > 250000;
  const call = app.scene.info.opens;
  const [rows] = app.scene.axes(call), soon = new Promise((done) => setTimeout(done, 600)), sure = (app.scene.info.metrics ?? []).findIndex((metric) => metric.key === 'confidence');
  let head = 0; // of a translation, the head that is surest of where it looks
  const metrics = cross.length && !long ? await Promise.race([app.scene.metrics().catch(() => null), soon]) : null;
  if (cross.length && metrics && sure >= 0) {
    const [, H, M] = metrics.shape, of = (h) => metrics.values[(call * H + h) * M + sure];
    for (let h = 1; h < calls[call].heads; h++) if (of(h) > of(head)) head = h;
  }
  return { call, head, lang: ['en', 'zh'].includes(app.scene.info.language) ? app.scene.info.language : '', query: rows.kind === 'patches' ? (rows.part.before ?? 0) + Math.floor(rows.part.rows / 2) * rows.part.columns + Math.floor(rows.part.columns / 2) : -1, scale: long ? 'log' : 'sqrt' };
}

// The recording, or the two that are compared; of several sequences, one.
async function sequence(row) {
  const prefix = row ? `s/${row}/` : '', found = [await Scene.open(prefix)];
  if (found[0].info.compare) found.push(...[await Scene.open(`${prefix}b/`).catch(() => null)].filter(Boolean));
  const words = await wordByWord(found);
  [scenes, worded, why, rowOpen] = [found, words.scenes, words.why, row];
}

async function start() {
  try {
    await sequence(Number(new URLSearchParams(location.hash.slice(1)).get('row')) || 0).catch(() => sequence(0));
    begin(await opening(), mended);
    listen(show);
    listen((changed) => changed.has('past') && remember(address()));
    build();
    show(new Set(['lang', 'order']));
    matchMedia('(prefers-color-scheme: dark)').addEventListener('change', () => show(new Set(['theme'])));
  } catch (error) {
    fill(root, make('p', { class: 'empty' }, say('failed', error.message)));
    console.error(error);
  }
}

start();
