// Two texts side by side, and lines from each word to the words it looks at: as opaque as the weight is large.

import { fill, make, percent, theme, token } from './dom.js';
import { css, fraction, ink, rgb } from './colour.js';
import { current, pin, preview, state } from './state.js';
import { much, say } from './say.js';

const MOST = 160, FAINTEST = 0.02;

export function createLines(host) {
  let picture = null, first = 0, last = 0, from = 0, to = 0, drawing = null, marks = [], rows = [], columns = [], step = 30;

  function show(next) {
    picture = next;
    if (!next?.data) return fill(host, next && make('p', { class: 'note' }, say('lines too long')));
    const now = current();
    const window = (n, at) => n <= MOST ? [0, n] : [Math.max(0, Math.min(n - MOST, at - MOST / 2)), Math.min(n, Math.max(MOST, at + MOST / 2))];
    [first, last] = window(next.T, Math.max(0, next.rowOf(now.query)));
    [from, to] = window(next.S, Math.max(0, next.columnOf(now.key >= 0 ? now.key : now.query)));
    step = Math.max(23, Math.min(30, (host.clientHeight - 100) / Math.max(last - first, to - from)));
    const height = Math.max(last - first, to - from) * step + 20;
    const start = (count) => height > host.clientHeight - 40 ? 10 : 10 + (height - 20 - count * step) / 2;
    const button = (side, i, label, faint) => make('button', {
      class: `word ${side} ${faint ? 'sign' : ''}`, style: { top: `${(side === 'who' ? start(last - first) + (i - first) * step : start(to - from) + (i - from) * step)}px` },
      onpointerenter: () => side === 'who' ? preview(picture.rowAt(i), -1) : preview(-1, picture.columnAt(i)),
      onpointerleave: () => preview(-1, -1),
      onfocus: (event) => event.target.matches(':focus-visible') && (side === 'who' ? preview(picture.rowAt(i), -1) : preview(-1, picture.columnAt(i))),
      onblur: () => preview(-1, -1),
      onclick: () => side === 'who' ? pin({ query: picture.rowAt(i), key: -1 }) : pin({ key: picture.columnAt(i), query: -1 }),
    }, make('span', { class: 'much' }), token(label));
    rows = [];
    columns = [];
    for (let i = first; i < last; i++) rows.push(button('who', i, next.rowLabel(i), next.rowFaint(i)));
    for (let j = from; j < to; j++) columns.push(button('whom', j, next.columnLabel(j), next.columnFaint(j)));
    drawing = make('svg', { class: 'threads', 'aria-hidden': 'true', height });
    const cut = last - first < next.T || to - from < next.S;
    fill(host, make('div', { class: 'sides' },
      make('h2', { class: 'who' }, say('looks'), make('small', {}, next.rowTitle)), make('h2', { class: 'whom' }, say('looked at'), make('small', {}, next.columnTitle)),
      make('div', { class: 'field', style: { height: `${height}px`, '--step': `${step}px` } }, rows, drawing, columns)),
    make('p', { class: 'note' }, say(state.weighting === 4 ? 'faintest signed' : 'faintest', percent(FAINTEST)), cut ? ' ' + say('window', MOST) : ''));
    lay(start(last - first), start(to - from));
  }

  function lay(a, b) {
    const width = drawing.clientWidth || 260, { S, data, apart } = picture;
    marks = [];
    drawing.setAttribute('viewBox', `0 0 ${width} ${drawing.getAttribute('height')}`);
    drawing.replaceChildren();
    for (let i = first; i < last; i++) {
      for (let j = from; j < to; j++) {
        const weight = apart ? fraction(data[i * S + j]) : data[i * S + j];
        if (!(Math.abs(weight) >= FAINTEST) || picture.barred(i, j) || picture.hidden(j)) continue;
        const y = a + (i - first + 0.5) * step, z = b + (j - from + 0.5) * step;
        const line = make('path', { d: `M0 ${y}C${width * 0.45} ${y} ${width * 0.55} ${z} ${width} ${z}`, class: apart ? (weight > 0 ? 'more' : 'less') : '', 'stroke-width': 1 + 4 * Math.abs(weight), 'stroke-opacity': Math.min(1, Math.abs(weight)) });
        marks.push([i, j, line]);
        drawing.append(line);
      }
    }
    light();
  }

  // Keep only the lines of the word that is looked at now, and say beside each word how much.
  function light() {
    if (!drawing) return;
    const now = current(), i = picture.rowOf(now.query), j = picture.columnOf(now.key);
    for (const [row, column, line] of marks) {
      const on = i < 0 && j < 0 || (i < 0 || row === i) && (j < 0 || column === j || i >= 0);
      line.classList.toggle('off', !on);
      line.classList.toggle('chosen', row === i && column === j);
    }
    const { S, data } = picture;
    rows.forEach((word, n) => mark(word, n + first === i, j >= 0 && i < 0 ? data[(n + first) * S + j] : undefined, theme('query')));
    columns.forEach((word, n) => mark(word, n + from === j, i >= 0 && !picture.hidden(n + from) && !picture.barred(i, n + from) ? data[i * S + n + from] : undefined, theme('key')));
  }

  function mark(word, chosen, weight, colour) {
    word.classList.toggle('chosen', chosen);
    word.setAttribute('aria-pressed', chosen);
    const size = Math.abs(picture.apart ? fraction(weight) : weight), told = Number.isFinite(weight) && size >= 0.005, signed = picture.apart;
    word.firstChild.textContent = !told ? '' : state.weighting === 4 ? much(Number(weight.toPrecision(2))) : `${signed ? (weight > 0 ? '+' : '−') : ''}${Math.round(size * 100)} %`;
    word.style.setProperty('--fill', !told ? 'transparent' : signed ? css(rgb(weight, state.scale, true)) : `color-mix(in srgb, ${colour} ${Math.round(Math.min(1, size) * 45)}%, transparent)`);
    word.style.color = told && signed ? ink(rgb(weight, state.scale, true)) : '';
  }

  function svg(sentence) {
    const height = Number(drawing.getAttribute('height')), width = drawing.clientWidth || 260, copy = drawing.cloneNode(true), side = 170;
    const root = make('svg', { xmlns: 'http://www.w3.org/2000/svg', width: Math.max(width + 2 * side, sentence.length * 8), height: height + 30, 'font-family': 'system-ui, "Noto Sans CJK SC", sans-serif', 'font-size': 14 });
    root.append(make('rect', { width: '100%', height: '100%', fill: theme('paper') }));
    root.append(make('text', { x: 8, y: 20, 'font-size': 13, fill: theme('ink') }, sentence));
    const threads = make('g', { transform: `translate(${side} 30)`, fill: 'none', stroke: theme('ink') });
    for (const line of [...copy.children]) if (!line.classList.contains('off')) threads.append(line);
    root.append(threads);
    const words = (list, x, anchor) => list.forEach((word) => root.append(make('text', { x, y: parseFloat(word.style.top) + step / 2 + 35, 'text-anchor': anchor, fill: theme('ink') }, word.lastChild.textContent)));
    words(rows, side - 8, 'end');
    words(columns, side + width + 8, 'start');
    return root;
  }

  return { show, draw: light, svg, resize: () => picture?.data && show(picture), follows: () => state.view === 'lines' };
}
