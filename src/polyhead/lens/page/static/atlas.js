// Where in the model: every head as a small map of constant size, by layer, by a metric, or by likeness to the chosen one.

import { digits, fill, make } from './dom.js';
import { pixels } from './colour.js';
import { weights } from './data.js';
import { pin, state } from './state.js';
import { partName, say, told } from './say.js';

const SIDE_OF_THUMB = 32;
const PARTS = ['encoder', 'decoder', 'cross'];

export function createAtlas(host, app) {
  const orders = make('select', { id: 'order', onchange: (event) => pin({ order: event.target.value }) });
  const list = make('div', { class: 'heads', role: 'group', 'aria-label': say('atlas') });
  const steps = make('div', { class: 'steps' });
  const note = make('p', { class: 'note' });
  fill(host, make('div', { class: 'row' }, make('label', { for: 'order' }, say('order')), orders,
    make('button', { class: 'quiet', onclick: () => app.open('heads') }, say('table'))), steps, list, note);
  const watcher = new IntersectionObserver((seen) => {
    for (const entry of seen) if (entry.isIntersecting) {
      watcher.unobserve(entry.target);
      const call = Number(entry.target.dataset.call);
      if (call === state.call) paintCall(call);
      else app.first.then(() => paintCall(call));
    }
  }, { root: host, rootMargin: '200px' });
  const buttons = new Map();
  let built = '', metrics = null, infos = [], turn = 0, refining = Promise.resolve();

  const scene = () => app.scene;
  const stepsOf = () => [...new Set(scene().calls.map((call) => call.step))].sort((a, b) => a - b);
  const hereStep = () => scene().calls[state.call].step;

  app.metrics().then((found) => {
    [metrics, infos] = found;
    fill(orders, make('option', { value: 'layer' }, say('layer')), make('option', { value: 'alike' }, say('alike')),
      infos.map((metric, m) => make('option', { value: `m${m}`, title: told(metric, 'about') }, told(metric))));
    show(new Set(['order']));
    if (app.view() === 'heads') app.parts?.table.show('heads');
  });

  const value = (call, head, m) => metrics ? metrics.values[(call * metrics.shape[1] + head) * metrics.shape[2] + m] : NaN;
  const nameOf = (call, head) => say('layer head', scene().calls[call].layer, head);

  function button(call, head, said) {
    const canvas = make('canvas', { 'aria-hidden': 'true', width: SIDE_OF_THUMB, height: SIDE_OF_THUMB });
    const element = make('button', {
      class: 'head', tabindex: -1, 'data-call': call, 'data-head': head, title: `${partName(scene().calls[call].part)} · ${nameOf(call, head)}`,
      'aria-label': `${partName(scene().calls[call].part)}, ${nameOf(call, head)}${said ? `, ${said}` : ''}`,
      onclick: (event) => event.shiftKey ? join(call, head) : pin({ call, head, heads: '' }),
    }, canvas, said && make('span', { class: 'value', 'aria-hidden': 'true' }, said), said && make('span', { class: 'who-is', 'aria-hidden': 'true' }, `${scene().calls[call].layer}·${head}`));
    buttons.set(`${call}.${head}`, element);
    return element;
  }

  // A head joins those whose mean is shown, or leaves them; only heads with the same axes can be joined.
  function join(call, head) {
    const set = new Set(app.chosen().map(([c, h]) => `${c}.${h}`)), name = `${call}.${head}`, calls = scene().calls;
    if (calls[call].rows !== calls[state.call].rows || calls[call].columns !== calls[state.call].columns || calls[call].queries !== calls[state.call].queries) return app.tell(say('other axes'));
    if (set.has(name)) set.delete(name);
    else set.add(name);
    if (set.size) {
      const [c, h] = [...set].at(-1).split('.').map(Number);
      pin({ call: c, head: h, heads: set.size > 1 ? [...set].join(',') : '' });
    }
  }

  async function thumbs(call) {
    const found = await scene().thumbs(call);
    return found && { shape: found.shape, values: weights(found) };
  }

  async function paintCall(call) {
    paintThumbs(call, await thumbs(call));
    if (!scene().calls[call].sampled) return;
    refining = refining.then(() => calmly()).then(async () => { // more exact rows, while the person looks
      const found = buttons.has(`${call}.0`) && await scene().bits.get(`fine/${call}`, () => scene().ask('thumbs', call, 'fine'));
      if (found) paintThumbs(call, { shape: found.shape, values: weights(found) });
    }).catch(() => {});
  }

  const calmly = () => new Promise((done) => window.requestIdleCallback ? requestIdleCallback(done) : setTimeout(done, 100));

  function paintThumbs(call, all) {
    if (!all) return;
    const [, rows, columns] = all.shape, size = rows * columns;
    for (let head = 0; head < scene().calls[call].heads; head++) {
      const canvas = buttons.get(`${call}.${head}`)?.firstChild;
      if (!canvas) continue;
      const context = canvas.getContext('2d');
      context.imageSmoothingEnabled = false;
      context.clearRect(0, 0, SIDE_OF_THUMB, SIDE_OF_THUMB);
      context.drawImage(pixels(all.values.subarray(head * size, (head + 1) * size), rows, columns, state.scale === 'linear' ? 'sqrt' : state.scale), 0, 0, SIDE_OF_THUMB, SIDE_OF_THUMB);
    }
  }

  async function build() {
    const now = ++turn, { calls } = scene(), step = hereStep(), here = calls.map((call, id) => [call, id]).filter(([call]) => call.step === step);
    const order = state.order, key = `${order}/${step}/${state.lang}/${Boolean(metrics)}/${order === 'alike' ? `${state.call}.${state.head}` : ''}`;
    if (key === built) return;
    let flat = here.flatMap(([call, id]) => Array.from({ length: call.heads }, (_, head) => [id, head]));
    if (order === 'alike') flat = await alike(flat);
    if (now !== turn) return;
    built = key;
    buttons.clear();
    watcher.disconnect();
    if (order === 'layer' || (order !== 'alike' && !metrics)) {
      const groups = [];
      let part = null;
      for (const name of [...PARTS, ...new Set(calls.map((call) => call.part))].filter((name, n, all) => all.indexOf(name) === n)) {
        for (const [call, id] of here) {
          if (call.part !== name) continue;
          if (part !== call.part) groups.push(make('h2', {}, partName(part = call.part)));
          const group = make('div', { class: 'layer', 'data-call': id }, make('span', { class: 'number', 'aria-hidden': 'true' }, call.layer), make('div', { class: 'thumbs', style: { '--across': call.heads % 8 && call.heads % 6 === 0 ? 6 : 8 } }, Array.from({ length: call.heads }, (_, head) => button(id, head))));
          groups.push(group);
          watcher.observe(group);
        }
      }
      fill(list, groups);
    } else {
      const m = Number(order.slice(1));
      if (order !== 'alike') flat = flat.map(([c, h]) => [c, h, value(c, h, m)]).filter(([, , v]) => !Number.isNaN(v)).sort((a, b) => b[2] - a[2]);
      const flatList = make('div', { class: 'thumbs flat' }, flat.map(([c, h, v]) => button(c, h, digits(Number(v.toPrecision(2))))));
      fill(list, flatList);
      for (const id of new Set(flat.map(([c]) => c))) paintCall(id);
    }
    note.textContent = order === 'layer' ? say('atlas note') : order === 'alike' ? say('alike note') : told(infos[Number(order.slice(1))] ?? {}, 'about');
    const all = stepsOf();
    steps.hidden = all.length < 2;
    if (all.length > 1) {
      const name = calls[state.call].name;
      fill(steps, make('label', { for: 'step' }, say('step', step, all.at(-1))), make('input', { type: 'range', id: 'step', min: 0, max: all.length - 1, value: all.indexOf(step), onchange: (event) => {
        const id = calls.findIndex((call) => call.name === name && call.step === all[event.target.value]);
        if (id >= 0) pin({ call: id, query: -1, key: -1, heads: '' });
      } }));
    }
    mark();
  }

  // Heads by the cosine of their small maps with the chosen one's.
  async function alike(flat) {
    const maps = new Map();
    for (const id of new Set(flat.map(([c]) => c))) maps.set(id, await thumbs(id));
    const of = ([c, h]) => {
      const found = maps.get(c);
      if (!found) return null;
      const [, rows, columns] = found.shape, from = h * rows * columns; // in one grid, whatever its own
      return Float32Array.from({ length: SIDE_OF_THUMB ** 2 }, (_, n) => found.values[from + Math.floor(Math.floor(n / SIDE_OF_THUMB) * rows / SIDE_OF_THUMB) * columns + Math.floor(n % SIDE_OF_THUMB * columns / SIDE_OF_THUMB)]);
    };
    const unit = (map) => { const root = map.map(Math.sqrt), long = Math.sqrt(root.reduce((s, v) => s + v * v, 0)) || 1; return root.map((v) => v / long); };
    const mine = of([state.call, state.head]);
    if (!mine) return flat.map(([c, h]) => [c, h, 0]);
    const base = unit(mine);
    return flat.filter((one) => of(one)).map(([c, h]) => [c, h, unit(of([c, h])).reduce((s, v, n) => s + v * base[n], 0)]).sort((a, b) => b[2] - a[2]);
  }

  function mark() {
    const set = new Set(app.chosen().map(([c, h]) => `${c}.${h}`)), several = set.size > 1;
    for (const [name, element] of buttons) {
      const on = name === `${state.call}.${state.head}`;
      element.setAttribute('aria-pressed', several ? set.has(name) : on);
      element.classList.toggle('joined', several && set.has(name));
      element.tabIndex = on ? 0 : -1;
    }
    const chosen = buttons.get(`${state.call}.${state.head}`);
    if (chosen) {
      const box = chosen.getBoundingClientRect(), frame = host.getBoundingClientRect();
      if (frame.height && (box.top < frame.top || box.bottom > frame.bottom)) host.scrollTop += box.top - frame.top - frame.height / 3;
    }
  }

  list.addEventListener('keydown', (event) => {
    const now = event.target.closest('.head'), all = [...list.querySelectorAll('.head')];
    const way = { ArrowRight: [1, 0], ArrowLeft: [-1, 0], ArrowDown: [0, 1], ArrowUp: [0, -1] }[event.key];
    if (!now || !way) return;
    event.preventDefault();
    event.stopPropagation();
    let next;
    if (way[0]) next = all[all.indexOf(now) + way[0]];
    else {
      const box = now.getBoundingClientRect(), off = (e) => { const b = e.getBoundingClientRect(); return [(b.top - box.top) * way[1], Math.abs(b.left - box.left)]; };
      next = all.map((e) => [e, ...off(e)]).filter(([, down]) => down > 4).sort((a, b) => a[1] - b[1] || a[2] - b[2])[0]?.[0];
    }
    if (!next) return;
    next.focus();
    pin({ call: Number(next.dataset.call), head: Number(next.dataset.head), heads: '' });
  });

  function show(changed) {
    if (['scale', 'theme'].some((name) => changed.has(name))) built = '';
    if (changed.has('order')) orders.value = state.order;
    if (orders.value !== state.order && metrics) orders.value = state.order;
    build().then(mark);
  }

  // Every head with every metric, to be sorted.
  function table() {
    const rows = scene().calls.flatMap((call, id) => Array.from({ length: call.heads }, (_, head) => [partName(call.part), call.layer, head, ...infos.map((_, m) => value(id, head, m)), id]));
    return { title: say('all heads of the model'), head: [say('part'), say('layer'), say('head word'), ...infos.map((metric) => told(metric) + (metric.unit ? ` (${metric.unit})` : ''))], about: [null, null, null, ...infos.map((metric) => told(metric, 'about'))], infos, rows, go: (row) => pin({ call: row.at(-1), head: row[2], heads: '' }) };
  }

  return { show, table };
}
