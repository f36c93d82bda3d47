// The place where it happens: a text, a picture or a sound, each axis in its own shape, with heat for what is looked at.

import { fill, make, surface, theme } from './dom.js';
import { pixels } from './colour.js';
import { createFrames, createPatches, createPlayer, overlay, picturesOf } from './panel.js';
import { createEntropy } from './entropy.js';
import { createRibbon } from './ribbon.js';
import { apart, current, pin, preview, state } from './state.js';
import { warped } from './align.js';
import { say, unit } from './say.js';
import { plain } from './tokens.js';

const SHEET = 150;

export function createStage(host, app) {
  let panels = [], built = '', sheet = null, alignment = null, player = null, undecided = null, smooth = false, asked = 0;

  function build() {
    const scene = app.shown(), [rows, columns] = scene.axes(state.call), name = `${scene.prefix}${rows.name}/${columns.name}/${rows.count}/${columns.count}/${state.by}/${state.lang}/${state.weighting === 4}/${state.side}`;
    if (name === built) return;
    built = name;
    panels.forEach(([, panel]) => panel.stop());
    player?.stop();
    player = alignment = sheet = undecided = null;
    const sounds = [rows, columns].find((ruler) => ruler.kind === 'frames');
    if (sounds) player = createPlayer(sounds, () => { panels.forEach(([, panel]) => panel.element.className === 'mel' && panel.resize()); alignment?.draw(); });
    const panel = (ruler, role) => [role, ruler.kind === 'patches' ? createPatches(ruler, role) : ruler.kind === 'frames' ? createFrames(ruler, role, player) : createRibbon(ruler, role)];
    panels = rows === columns ? [panel(rows, 'both')] : [panel(rows, 'query'), panel(columns, 'key')];
    const frames = columns.kind === 'frames' && rows.kind !== 'frames';
    if (frames) alignment = createAlignment(app, rows, columns, () => player);
    const titled = panels.map(([role, { element }], n) => make('section', { class: `plate ${role}` },
      make('h2', { class: role === 'key' ? 'whom' : 'who' }, role === 'both' ? say('looks and looked at') : say(role === 'query' ? 'looks' : 'looked at'), make('small', {}, app.titleOf([rows, columns][n]))), element));
    if (rows.kind === 'words' && columns.kind === 'words') undecided = createEntropy(app, rows, columns, (i) => panels[0][1].reveal(i));
    const pictured = [rows, columns].find((ruler) => ruler.kind === 'patches');
    if (pictured) sheet = createSheet(app, pictured, rows, columns);
    const softer = pictured && make('label', { class: 'check' }, make('input', { type: 'checkbox', onchange: (event) => { smooth = event.target.checked; panels.forEach(([, panel]) => panel.smooth?.(smooth)); sheet?.smooth(smooth); } }), say('smooth'));
    fill(host, make('div', { class: `stage-body ${pictured ? 'pictured' : ''}` },
      frames ? [make('div', { class: 'bar' }, player.button), titled[1], alignment.element, titled[0]] : [player && make('div', { class: 'bar' }, player.button), softer, undecided?.element, titled],
      sheet?.element), make('p', { class: 'note' }, pictured && state.side !== 'd' ? `${say(apart() ? 'lit signed' : 'lit')} ` : '', say(rows === columns ? 'shift' : 'point')));
  }

  // Ask for what the word that looks sees, and tint with it what is there.
  let timer = 0;
  async function draw() {
    build();
    clearTimeout(timer);
    if (app.shown().small(state.call)) return tint();
    timer = setTimeout(tint, 60);
  }

  async function tint() {
    const now = current(), turn = ++asked, scene = app.shown(), call = state.call, weighting = app.weighting();
    const back = now.query < 0 && now.key >= 0;
    const [rows, columns] = scene.axes(call), matrix = await app.mean(scene);
    if (turn !== asked) return;
    let links = [], line = null;
    if (matrix) {
      line = lineOfWeights(matrix, now, back);
      links = Array.from(line, (w, i) => [i, w]);
    } else if (state.side !== 'd' && (now.query >= 0 || now.key >= 0)) {
      const found = await scene.strongest(back ? 'column' : 'row', call, state.head, weighting, back ? now.key : now.query);
      if (turn !== asked) return;
      links = found?.links ?? [];
      line = new Float32Array(back ? rows.count : columns.count);
      for (const [i, w] of links) line[i] = w;
    }
    const alone = (i) => Number.isNaN(line?.[i]), out = (i) => Boolean(state.sinks) && scene.sink(call, i);
    for (const [role, panel] of panels) {
      const tinted = role === 'both' || (role === 'query') === back;
      panel.show(tinted ? links : [], now, (i) => tinted && alone(i) || role !== 'query' && out(i), tinted ? line : null);
    }
    sheet?.show(now, back);
    alignment?.show(matrix);
    undecided?.show(matrix);
  }

  return {
    show: draw, draw, built: () => built,
    reveal: (i, j) => panels.forEach(([role, panel]) => panel.reveal(role === 'key' ? j : i)),
    resize: () => { panels.forEach(([, panel]) => panel.resize?.()); alignment?.draw(); undecided?.draw(); draw(); },
    leave: () => player?.stop(),
    play: () => player?.toggle(),
    canvas: () => panels.map(([, panel]) => panel.canvas).find(Boolean),
    words: () => alignment?.table(),
  };
}

// What one who looks gives to each, what one who is looked at gets from each (`back`), or, with nobody chosen, what all get:
// shares have a mean, gradients a sum, and differences the mean of those who are in both.
function lineOfWeights({ T, S, data, signed }, { query, key }, back) {
  if (back) return Float32Array.from({ length: T }, (_, i) => data[i * S + key]);
  if (query >= 0) return data.slice(query * S, (query + 1) * S);
  return Float32Array.from({ length: S }, (_, j) => {
    let sum = 0, count = 0;
    for (let n = j; n < T * S; n += S) if (!Number.isNaN(data[n])) [sum, count] = [sum + data[n], count + 1];
    return sum / (signed && count ? 1 : count);
  });
}

// All heads of a layer, each as the picture with what the chosen patch looks at in it.
function createSheet(app, ruler, rows, columns) {
  const list = make('div', { class: 'sheet', role: 'group', 'aria-label': say('all heads') });
  const element = make('section', { class: 'plate all' }, make('h2', {}, say('all heads')), list);
  let image = null, asked = 0, smooth = false, now = null, back = false;
  picturesOf(ruler).then((found) => {
    image = found;
    if (now) show(now, back);
  });

  async function show(next, backwards) {
    [now, back] = [next, backwards];
    const turn = ++asked, scene = app.shown(), call = state.call, { heads } = scene.calls[call], part = ruler.part;
    if (list.children.length !== heads || list.dataset.call !== String(call)) {
      list.dataset.call = call;
      fill(list, Array.from({ length: heads }, (_, head) => make('button', { onclick: () => pin({ head, heads: '' }) }, make('canvas', { 'aria-hidden': 'true' }), make('span', {}, say('head', head)))));
    }
    const shape = (part.width ?? part.columns) / (part.height ?? part.rows);
    for (let head = 0; head < heads; head++) {
      const matrix = await app.mean(scene, [[call, head]]);
      if (turn !== asked) return;
      const button = list.children[head];
      button.setAttribute('aria-pressed', head === state.head);
      const looked = back || ruler === rows && ruler !== columns, line = matrix && (looked && now.key < 0 ? null : lineOfWeights(matrix, now, looked));
      const context = surface(button.firstChild, SHEET, SHEET / shape);
      overlay(context, image, part, line, 0, 0, SHEET, SHEET / shape, smooth);
    }
  }

  return { element, show, smooth(yes) { smooth = yes; if (now) show(now, back); } };
}

// Words over time: the weights of each word on each frame, and the path that runs through them.
function createAlignment(app, rows, columns, player) {
  const canvas = make('canvas', { class: 'alignment', role: 'img', 'aria-label': say('alignment') });
  const strip = make('div', { class: 'strip', role: 'group', 'aria-label': say('words in time') });
  const note = make('p', { class: 'note' });
  const element = make('section', { class: 'plate all' }, make('h2', {}, say('alignment')), strip, make('div', { class: 'aligned' }, canvas), note);
  let matrix = null, image = null, way = null, of = '', words = [];

  async function show(next) {
    matrix = next;
    image = null;
    await rows.load(0, rows.count);
    const name = `${app.shown().prefix}${state.call}/${state.head}/${state.heads}/${app.weighting()}/${state.by}/${state.lang}`;
    if (matrix && of !== name) {
      of = name;
      const heads = await app.each(app.shown(), matrix.signed ? 0 : app.weighting()); // where words lie in time, weights tell
      if (of !== name) return;
      way = warped(heads.map((head) => head.data), matrix.T, matrix.S);
      note.textContent = say('path of', heads.length);
      const all = columns.count;
      words = Array.from({ length: rows.count }, (_, i) => make('button', {
        class: rows.signs.has(i) ? 'sign' : '', style: { left: `${way.begins[i] / all * 100}%`, width: `${Math.max(0.3, (way.begins[i + 1] - way.begins[i]) / all * 100)}%` }, title: time(i),
        onclick: () => { pin({ query: i, key: -1 }); player()?.seek(way.begins[i] * columns.part.seconds); },
        onpointerenter: () => preview(i, -1), onpointerleave: () => preview(-1, -1),
      }, make('span', {}, plain(rows.label(i)))));
      fill(strip, words);
    }
    draw();
  }

  const time = (i) => `${plain(rows.label(i))} ${(way.begins[i] * columns.part.seconds).toFixed(2)}–${(way.begins[i + 1] * columns.part.seconds).toFixed(2)} s`;

  function draw() {
    if (!matrix || !way) return;
    const { T, S, data } = matrix, width = canvas.parentElement.clientWidth || 600, each = Math.max(3, Math.min(18, 420 / T)), height = T * each + 4;
    const context = surface(canvas, width, height), now = current();
    image ??= pixels(data, T, S, state.scale, { apart: apart() });
    context.imageSmoothingEnabled = false;
    context.drawImage(image, 0, 0, width, T * each);
    const to = width / S;
    const run = (colour, wide) => {
      context.strokeStyle = colour;
      context.lineWidth = wide;
      context.lineJoin = 'round';
      context.beginPath();
      way.path.forEach(([i, j], n) => context[n ? 'lineTo' : 'moveTo']((j + 0.5) * to, (i + 0.5) * each));
      context.stroke();
    };
    run('rgb(0 0 0 / 0.75)', 4.5);
    run('#fff', 1.75);
    if (each >= 11) {
      context.font = `${Math.min(13, each - 2)}px ${theme('face')}`;
      context.textBaseline = 'middle';
      context.lineWidth = 3;
      context.strokeStyle = 'rgb(0 24 58 / 0.9)';
      for (let i = 0; i < T; i++) {
        const label = plain(rows.label(i)), x = way.begins[i + 1] * to + 8, wide = context.measureText(label).width, px = x + wide > width ? way.begins[i] * to - wide - 8 : x;
        context.fillStyle = i === now.query ? '#ffe45c' : rows.signs.has(i) ? '#b9c3d6' : '#fff';
        context.strokeText(label, px, (i + 0.5) * each + 0.5);
        context.fillText(label, px, (i + 0.5) * each + 0.5);
      }
    }
    if (now.query >= 0) {
      context.strokeStyle = '#8ab8ff';
      context.lineWidth = 2;
      context.strokeRect(1, now.query * each, width - 2, each);
    }
    const moment = player()?.time();
    if (moment !== undefined) {
      const frame = moment / columns.part.seconds;
      context.fillStyle = '#ff9f45';
      context.fillRect(frame * to - 1, 0, 2, height);
      words.forEach((word, i) => word.classList.toggle('now', frame >= way.begins[i] && frame < way.begins[i + 1]));
    }
    words.forEach((word, i) => word.setAttribute('aria-pressed', i === now.query));
  }

  const at = (event) => {
    const box = canvas.getBoundingClientRect();
    return [Math.floor((event.clientY - box.top) / box.height * matrix.T), Math.floor((event.clientX - box.left) / box.width * matrix.S)].map((n, axis) => Math.max(0, Math.min(n, (axis ? matrix.S : matrix.T) - 1)));
  };
  canvas.addEventListener('pointermove', (event) => matrix && preview(...at(event)));
  canvas.addEventListener('pointerleave', () => preview(-1, -1));
  canvas.addEventListener('click', (event) => {
    if (!matrix) return;
    const [query, key] = at(event);
    pin({ query, key });
    player()?.seek(key * columns.part.seconds);
  });

  const table = () => way && { title: say('words in time'), head: [unit(rows), say('from s'), say('to s')], rows: Array.from({ length: rows.count }, (_, i) => [plain(rows.label(i)), (way.begins[i] * columns.part.seconds).toFixed(2), (way.begins[i + 1] * columns.part.seconds).toFixed(2)]) };
  return { element, show, draw, table };
}
