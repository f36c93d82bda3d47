// The map of one head: exact cells with their words along both axes, and, for long inputs, tiles of coarser levels.

import { calm, grouped, make, percent, surface, theme } from './dom.js';
import { css, dark, fraction, ink, peak, pixels, place, ramp, rgb } from './colour.js';
import { get, Kept, numbers, weights } from './data.js';
import { current, pin, preview, state } from './state.js';
import { plain } from './tokens.js';
import { much, say } from './say.js';

const TILE = 256, LARGEST = 46, READABLE = 13, FONT = '12.5px';
const WORDS_FONT = `${FONT} system-ui, "Noto Sans CJK SC", "PingFang SC", "Microsoft YaHei", sans-serif`;

// A map in `host`. `app.picture()` gives what is shown, `app.scene` the tiles of what is too long to be held.
export function createMap(host, app) {
  const canvas = make('canvas', { tabindex: 0, role: 'application', 'aria-roledescription': say('map'), 'aria-describedby': 'sentence readout', class: 'map' });
  const zoomIn = make('button', { class: 'round', onclick: () => zoom(1.6), 'aria-label': say('zoom in') }, '+');
  const zoomOut = make('button', { class: 'round', onclick: () => zoom(1 / 1.6), 'aria-label': say('zoom out') }, '−');
  const zoomFit = make('button', { class: 'round', onclick: () => { fit(); draw(); }, 'aria-label': say('whole') }, '⤢');
  const zooms = make('div', { class: 'zooms' }, zoomIn, zoomOut, zoomFit);
  host.replaceChildren(canvas);
  const tiles = new Kept(256);
  const asked = new Map();
  let picture = null, width = 0, height = 0, x = 0, y = 0, zx = 1, zy = 1, left = 0, top = 0, below = 0, right = 0, image = null, imageOf = '', queued = false, fitted = true, moved = 0;

  // What is to be shown; null clears.
  function show(next) {
    const known = picture && next && picture.T === next.T && picture.S === next.S && picture.name === next.name;
    picture = next;
    image = null;
    for (const [, request] of asked) request.stop.abort();
    asked.clear();
    if (!next) return draw();
    measure();
    if (!known || fitted) fit();
    draw();
  }

  // The cell of a place, and the place of a cell: [query, key], -1 where there is none.
  const cellOf = ({ query, key }) => picture.cellOf?.(query, key) ?? [picture.rowOf(query), picture.columnOf(key)];
  const placeAt = (i, j) => picture.placeAt?.(i, j) ?? [i < 0 ? -1 : picture.rowAt(i), j < 0 ? -1 : picture.columnAt(j)];
  const sides = () => picture.titles ?? [[`${say('looks')} (query)`, 'query'], [`${say('looked at')} (key) →`, 'key']];

  function measure() {
    const context = canvas.getContext('2d');
    context.font = WORDS_FONT;
    const widest = (axis, count) => {
      let most = 0;
      for (let i = 0; i < Math.min(count, 400); i++) most = Math.max(most, context.measureText(axis(i)).width);
      return most;
    };
    const box = host.getBoundingClientRect();
    width = Math.max(200, Math.floor(box.width));
    height = Math.max(160, Math.floor(box.height));
    const rows = widest(picture.rowLabel, picture.T), columns = widest(picture.columnLabel, picture.S);
    const short = picture.T <= 400 && picture.S <= 400;
    left = Math.min(Math.max(rows, 24), width < 500 ? 76 : 130) + 40;
    below = columns;
    top = short ? Math.min(Math.max(columns, 14) * 0.82 + 44, height * 0.34, 150) : 62;
    right = short ? Math.min(60, Math.max(12, columns * 0.55)) : 12;
  }

  function fit() {
    if (!picture) return;
    fitted = true;
    const w = width - left - right, h = height - top - 12;
    zx = w / picture.S;
    zy = h / picture.T;
    const most = LARGEST;
    if (picture.free) [zx, zy] = [Math.min(zx, most), Math.min(zy, most / 2)];
    else if (Math.max(zx / zy, zy / zx) < 5 || Math.min(zx, zy) > 10) zx = zy = Math.min(zx, zy, most);
    else [zx, zy] = [Math.min(zx, most), Math.min(zy, most)];
    if (zx > READABLE && below * 1.05 + 8 < Math.min(zx, zy)) top = Math.min(top, 52);
    x = y = 0;
  }

  function zoom(by, px = left + (width - left) / 2, py = top + (height - top) / 2) {
    if (!picture) return;
    fitted = false;
    const cx = x + (px - left) / zx, cy = y + (py - top) / zy;
    const bound = (z, n, room) => Math.min(64, Math.max(z, Math.min(room / n, 8)));
    zx = bound(zx * by, picture.S, width - left - right);
    zy = bound(zy * by, picture.T, height - top - 12);
    x = cx - (px - left) / zx;
    y = cy - (py - top) / zy;
    hold();
    draw();
  }

  function hold() {
    x = Math.max(0, Math.min(x, picture.S - (width - left - right) / zx));
    y = Math.max(0, Math.min(y, picture.T - (height - top - 12) / zy));
  }

  // Bring a cell into sight.
  function reveal(place) {
    if (!picture) return;
    const [i, j] = cellOf(place);
    if (i < 0) return;
    const w = (width - left - right) / zx, h = (height - top - 12) / zy;
    if (i < y || i + 1 > y + h) y = i + 0.5 - h / 2;
    if (j >= 0 && (j < x || j + 1 > x + w)) x = j + 0.5 - w / 2;
    hold();
    draw();
  }

  function draw() {
    if (queued) return;
    queued = true;
    requestAnimationFrame(() => {
      queued = false;
      paint();
    });
  }

  function paint() {
    if (!picture) return surface(canvas, width || 10, height || 10);
    const context = surface(canvas, width, height);
    const { T, S } = picture;
    const x0 = Math.floor(x), x1 = Math.min(S, Math.ceil(x + (width - left - right) / zx));
    const y0 = Math.floor(y), y1 = Math.min(T, Math.ceil(y + (height - top - 12) / zy));
    const at = (j) => left + (j - x) * zx, to = (i) => top + (i - y) * zy;
    const w = Math.min(width - left, (S - x) * zx), h = Math.min(height - top, (T - y) * zy);
    context.save();
    context.beginPath();
    context.rect(left, top, w, h);
    context.clip();
    context.fillStyle = theme('void');
    context.fillRect(left, top, w, h);
    context.imageSmoothingEnabled = false;
    if (picture.data) cells(context, { x0, x1, y0, y1, at, to });
    else pyramid(context, { x0, x1, y0, y1, at, to });
    context.restore();
    context.font = WORDS_FONT;
    axes(context, { x0, x1, y0, y1, at, to });
    cross(context, at, to, w, h);
    context.fillStyle = theme('soft');
    context.font = `12px ${theme('face')}`;
    context.textAlign = 'left';
    context.save();
    context.translate(12, top + Math.min(h, height - top) / 2);
    context.rotate(-Math.PI / 2);
    context.textAlign = 'center';
    const [side, above] = sides();
    context.fillStyle = theme(side[1]);
    context.fillText(side[0], 0, 0);
    context.restore();
    context.fillStyle = theme(above[1]);
    context.fillText(above[0], left, 13);
  }

  function cells(context, { x0, x1, y0, y1, at, to }) {
    const { T, S, data } = picture;
    if (zx >= 9 && zy >= 9 && (x1 - x0) * (y1 - y0) <= 2500) {
      const gap = Math.min(zx, zy) >= 18 ? 1.5 : 1, round = Math.min(4, Math.min(zx, zy) / 7);
      context.font = `${Math.max(10, Math.min(13, zx * 0.36))}px system-ui, sans-serif`;
      context.textAlign = 'center';
      context.textBaseline = 'middle';
      for (let i = y0; i < y1; i++) {
        for (let j = x0; j < x1; j++) {
          const value = data[i * S + j], colour = rgb(value, state.scale, picture.apart);
          context.beginPath();
          context.roundRect(at(j) + gap / 2, to(i) + gap / 2, zx - gap, zy - gap, round);
          if (Number.isNaN(value) || picture.barred(i, j) || picture.hidden(j)) {
            context.fillStyle = theme('barred');
            context.fill();
            if (Number.isNaN(value) || picture.hidden(j)) {
              context.beginPath();
              context.moveTo(at(j) + 3, to(i) + zy - 3);
              context.lineTo(at(j) + zx - 3, to(i) + 3);
              context.strokeStyle = theme('line');
              context.stroke();
            }
            continue;
          }
          context.fillStyle = css(colour);
          context.fill();
          if (zx >= 24 && Math.abs(picture.apart ? fraction(value) : value) >= 0.005) {
            context.fillStyle = ink(colour);
            context.fillText(picture.apart ? (value > 0 ? '+' : '−') + Math.round(Math.abs(fraction(value)) * 100) : Math.round(value * 100), at(j) + zx / 2, to(i) + zy / 2 + 0.5);
          }
        }
      }
      context.textBaseline = 'alphabetic';
      return;
    }
    if (!image || imageOf !== state.scale) {
      imageOf = state.scale;
      image = pixels(data, T, S, state.scale, { apart: picture.apart, hidden: (i, j) => picture.barred(i, j) || picture.hidden(j) });
    }
    context.drawImage(image, at(0), to(0), S * zx, T * zy);
  }

  function pyramid(context, { x0, x1, y0, y1, at, to }) {
    const { T, S } = picture, coarsest = Math.max(0, Math.ceil(Math.log2(Math.max(T, S) / TILE)));
    const level = Math.min(coarsest, Math.max(0, Math.floor(Math.log2(1 / Math.min(zx, zy)) + 0.15)));
    const wanted = new Set();
    if (picture.thumb) {
      picture.small ??= pixels(picture.thumb.values, picture.thumb.rows, picture.thumb.columns, state.scale);
      context.drawImage(picture.small, at(0), to(0), S * zx, T * zy);
    }
    if (!picture.tile) return app.sampled('summary');
    let missing = 0, seen = level;
    for (let step = coarsest; step >= level; step--) {
      const side = TILE * 2 ** step;
      for (let i = Math.floor(y0 / side); i * side < y1; i++) {
        for (let j = Math.floor(x0 / side); j * side < x1; j++) {
          if (picture.causal && j * side > Math.min(T, (i + 1) * side) + S - T) continue;
          const path = picture.tile(step, i, j), found = tiles.peek(path);
          if (step === level) wanted.add(path);
          if (found === 'none' && step === level) seen = coarsest; // all that a file keeps
          if (found?.values) {
            const drawn = coloured(found);
            context.drawImage(drawn, at(j * side), to(i * side), drawn.width * 2 ** step * zx, drawn.height * 2 ** step * zy);
          } else if (found === undefined && (step === level || (step === coarsest && level < coarsest - 1))) {
            missing++;
            fetchTile(path);
          }
        }
      }
    }
    for (const [path, request] of asked) if (!wanted.has(path) && !path.includes(`/${coarsest}/`)) {
      request.stop.abort();
      asked.delete(path);
    }
    if (picture.causal) {
      context.fillStyle = theme('barred');
      context.beginPath();
      context.moveTo(at(S - T), to(0));
      context.lineTo(at(S), to(0));
      context.lineTo(at(S), to(T));
      context.fill();
    }
    app.sampled(missing || asked.size ? 'coming' : seen ? 'max' : 'exact', 2 ** seen);
  }

  function fetchTile(path) {
    if (asked.size >= 6 || asked.has(path)) return;
    const stop = new AbortController();
    asked.set(path, { stop });
    get(path, stop.signal).then((bytes) => {
      const found = bytes ? numbers(bytes) : null;
      tiles.get(path, () => found ?? 'none');
    }, () => {}).finally(() => {
      asked.delete(path);
      draw();
    });
  }

  function coloured(tile) {
    const of = `${state.scale}/${picture.apart ? `${dark()}/${peak()}` : ''}`;
    if (tile.drawn && tile.of === of) return tile.drawn;
    const [rows, columns] = tile.shape;
    tile.of = of;
    tile.drawn = pixels(weights(tile), rows, columns, state.scale, { apart: picture.apart });
    return tile.drawn;
  }

  // A label of at most so many pixels, its end cut off where it is longer.
  function cut(context, label, room) {
    if (context.measureText(label).width <= room) return label;
    const parts = [...label];
    while (parts.length > 1 && context.measureText(parts.join('') + '…').width > room) parts.pop();
    return parts.join('') + '…';
  }

  function axes(context, { x0, x1, y0, y1, at, to }) {
    const [row, column] = cellOf(current()), [[, rowColour], [, columnColour]] = sides();
    context.textBaseline = 'middle';
    context.textAlign = 'right';
    const round = (n) => [1, 2, 5].map((m) => m * 10 ** Math.floor(Math.log10(n))).find((m) => m >= n) ?? 10 ** Math.ceil(Math.log10(n));
    const step = (least) => least <= 3 ? Math.max(1, Math.ceil(least)) : round(least);
    const counted = (ruler) => ruler.kind === 'words' || ruler.kind === 'places', numbered = (ruler, each) => each > 3 && counted(ruler);
    const skip = step((zy >= READABLE - 2 ? 12 : 18) / zy), indexed = skip > 1;
    const word = (label, px, py, room, strong) => {
      const text = cut(context, label, room);
      context.font = strong ? `600 ${WORDS_FONT}` : WORDS_FONT;
      context.fillText(plain(text), px, py);
    };
    for (let i = Math.ceil(y0 / skip) * skip; i < y1; i += skip) {
      if (indexed && row >= 0 && Math.abs(i - row) * zy < 15 && (i !== row || numbered(picture.rows, skip))) continue;
      context.fillStyle = i === row ? theme(rowColour) : picture.rowFaint(i) ? theme('soft') : theme('ink');
      word(numbered(picture.rows, skip) ? grouped(i) : picture.rowLabel(i), left - 7, to(i + 0.5), left - 32, i === row);
    }
    if (row >= y0 && row < y1 && indexed) {
      context.fillStyle = theme(rowColour);
      word(picture.rowLabel(row), left - 7, to(row + 0.5), left - 32, true);
    }
    context.textAlign = 'left';
    const upright = zx > READABLE && below + 6 <= zx;
    const wide = counted(picture.columns) && 17 / zx > 3, across = step((upright ? 1 : wide ? 52 : 17) / zx);
    const name = (j, strong) => {
      context.fillStyle = strong ? theme(columnColour) : picture.columnFaint(j) ? theme('soft') : theme('ink');
      context.font = strong ? `600 ${WORDS_FONT}` : WORDS_FONT;
      if (upright) {
        context.textAlign = 'center';
        context.fillText(plain(picture.columnLabel(j)), at(j + 0.5), top - 12);
        context.textAlign = 'left';
        return;
      }
      context.save();
      context.translate(at(j + 0.5) + 3, top - 6);
      context.rotate(-Math.PI / 3.4);
      context.fillText(plain(cut(context, picture.columnLabel(j), (top - 30) / 0.82)), 0, 0);
      context.restore();
    };
    for (let j = Math.ceil(x0 / across) * across; j < x1; j += across) {
      if (j === column) continue;
      if (!numbered(picture.columns, across)) name(j, false);
      else {
        context.fillStyle = theme('ink');
        context.font = WORDS_FONT;
        context.textAlign = j ? 'center' : 'left';
        context.fillText(grouped(picture.columnNumber?.(j) ?? j), at(j + 0.5), top - 14);
        context.fillRect(at(j + 0.5) - 0.5, top - 5, 1, 4);
        context.textAlign = 'left';
      }
    }
    if (column >= x0 && column < x1) {
      if (numbered(picture.columns, across)) {
        context.font = `600 ${WORDS_FONT}`;
        const label = plain(picture.columnLabel(column)), w = context.measureText(label).width + 8, px = Math.max(left, Math.min(at(column + 0.5) - w / 2, width - w));
        context.fillStyle = theme('paper');
        context.fillRect(px, top - 23, w, 18);
        context.fillStyle = theme(columnColour);
        context.fillText(label, px + 4, top - 14);
      } else name(column, true);
    }
    context.textBaseline = 'alphabetic';
  }

  // Where one looks: a band over the row and one over the column, a frame round the cell.
  function cross(context, at, to, w, h) {
    const [i, j] = cellOf(current()), [[, rowColour], [, columnColour]] = sides();
    const band = (colour, px, py, pw, ph) => {
      context.strokeStyle = colour;
      context.lineWidth = 1.5;
      context.strokeRect(px, py, pw, ph);
    };
    context.save();
    context.beginPath();
    context.rect(left - 3, top - 3, w + 6, h + 6);
    context.clip();
    if (j >= 0) band(theme(columnColour), at(j), top - 1, Math.max(zx, 2), Math.min(h, to(picture.T) - top) + 2);
    if (i >= 0) band(theme(rowColour), left - 1, to(i), Math.min(w, at(picture.S) - left) + 2, Math.max(zy, 2));
    if (i >= 0 && j >= 0) {
      context.strokeStyle = theme('paper');
      context.lineWidth = 4;
      context.strokeRect(at(j), to(i), Math.max(zx, 3), Math.max(zy, 3));
      context.strokeStyle = theme('ink');
      context.lineWidth = 2;
      context.strokeRect(at(j), to(i), Math.max(zx, 3), Math.max(zy, 3));
    }
    context.restore();
  }

  function cellAt(event) {
    const box = canvas.getBoundingClientRect();
    const px = event.clientX - box.left, py = event.clientY - box.top;
    const j = px < left ? -1 : Math.floor(x + (px - left) / zx), i = py < top ? -1 : Math.floor(y + (py - top) / zy);
    return [i < picture.T ? i : -1, j < picture.S ? j : -1];
  }

  const fingers = new Map();
  canvas.addEventListener('pointerdown', (event) => {
    fingers.set(event.pointerId, [event.clientX, event.clientY]);
    canvas.setPointerCapture(event.pointerId);
    moved = 0;
  });
  canvas.addEventListener('pointermove', (event) => {
    if (!picture) return;
    const from = fingers.get(event.pointerId);
    if (from) {
      const [dx, dy] = [event.clientX - from[0], event.clientY - from[1]];
      moved += Math.abs(dx) + Math.abs(dy);
      if (fingers.size === 2) {
        const [a, b] = [...fingers.values()], before = Math.hypot(a[0] - b[0], a[1] - b[1]);
        fingers.set(event.pointerId, [event.clientX, event.clientY]);
        const [c, d] = [...fingers.values()], box = canvas.getBoundingClientRect();
        zoom(Math.hypot(c[0] - d[0], c[1] - d[1]) / Math.max(1, before), (c[0] + d[0]) / 2 - box.left, (c[1] + d[1]) / 2 - box.top);
      } else if (moved > 5) {
        fitted = false;
        x -= dx / zx;
        y -= dy / zy;
        fingers.set(event.pointerId, [event.clientX, event.clientY]);
        hold();
        draw();
      }
      return;
    }
    const [i, j] = cellAt(event);
    preview(...placeAt(i, j));
  });
  const lift = (event) => {
    if (event.type === 'pointerup' && moved <= 5 && picture) {
      const [query, key] = placeAt(...cellAt(event));
      if (query >= 0 && key >= 0) pin({ query, key });
      else if (query >= 0) pin({ query });
      else if (key >= 0) pin({ key });
    }
    fingers.delete(event.pointerId);
  };
  canvas.addEventListener('pointerup', lift);
  canvas.addEventListener('pointercancel', lift);
  canvas.addEventListener('pointerleave', () => preview(-1, -1));
  canvas.addEventListener('dblclick', () => { fit(); draw(); });
  canvas.addEventListener('wheel', (event) => {
    if (!picture || (window !== top && !event.ctrlKey && !document.hasFocus())) return; // a notebook scrolls on, until somebody clicks here
    event.preventDefault();
    const box = canvas.getBoundingClientRect();
    zoom(Math.exp(-Math.max(-120, Math.min(120, event.deltaY)) / (calm() ? 240 : 320)), event.clientX - box.left, event.clientY - box.top);
  }, { passive: false });
  canvas.addEventListener('keydown', (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const act = { '+': () => zoom(1.6), '=': () => zoom(1.6), '-': () => zoom(1 / 1.6), 0: () => { fit(); draw(); } }[event.key];
    if (act) {
      event.preventDefault();
      act();
    }
  });

  // The map as SVG whose words stay words.
  function svg(picture) {
    const { T, S, data } = picture, side = Math.max(10, Math.min(26, 900 / Math.max(T, S))), l = 150, t = 120;
    const root = make('svg', { xmlns: 'http://www.w3.org/2000/svg', width: l + S * side + 60, height: t + T * side + 30, 'font-family': 'system-ui, "Noto Sans CJK SC", sans-serif', 'font-size': 12 });
    root.append(make('rect', { width: '100%', height: '100%', fill: theme('paper') }), make('text', { x: 8, y: 18, fill: theme('ink') }, app.sentence()));
    for (let i = 0; i < T; i++) {
      root.append(make('text', { x: l - 6, y: t + (i + 0.5) * side + 4, 'text-anchor': 'end', fill: theme('ink') }, plain(picture.rowLabel(i))));
      for (let j = 0; j < S; j++) {
        const value = data[i * S + j], out = Number.isNaN(value) || picture.barred(i, j) || picture.hidden(j);
        root.append(make('rect', { x: l + j * side, y: t + i * side, width: side - 1, height: side - 1, rx: 2, fill: out ? theme('barred') : `rgb(${rgb(value, state.scale, picture.apart).join(',')})` }));
      }
    }
    for (let j = 0; j < S; j++) root.append(make('text', { transform: `translate(${l + (j + 0.6) * side} ${t - 6}) rotate(-55)`, fill: theme('ink') }, plain(picture.columnLabel(j))));
    return root;
  }

  return { show, draw, reveal, svg, canvas, zooms, resize: () => { if (picture) { measure(); if (fitted) fit(); hold(); draw(); } } };
}

// The scale of colours with its numbers, and where the cell that is looked at stands on it.
export function legend(canvas, apart, value) {
  const width = canvas.parentElement.clientWidth || 240, context = surface(canvas, width, 30), colours = ramp(apart), n = 120;
  for (let i = 0; i < n; i++) {
    const at = Math.round(i / (n - 1) * 255) * 3;
    context.fillStyle = css([colours[at], colours[at + 1], colours[at + 2]]);
    context.fillRect(8 + i * (width - 16) / n, 4, (width - 16) / n + 0.6, 9);
  }
  context.font = `11px ${theme('face')}`;
  context.fillStyle = theme('soft');
  context.textAlign = 'center';
  const few = width < (apart === true ? 290 : 230);
  if (apart === true) for (let tenth = -9; tenth < 10; tenth++) context.fillRect(8 + place(tenth / 10 * peak(), state.scale, true) * (width - 16), 13, 1, tenth ? 3 : 5); // which show how the scale bends
  const ticks = few ? (apart === true ? [-1, 0, ...{ sqrt: [0.1], log: [0.001] }[state.scale] ?? [], 1] : [0, state.scale === 'log' ? 0.01 : 0.25, 1]) : apart === true ? [-1, -0.25, 0, 0.25, 1] : state.scale === 'log' ? [0, 0.001, 0.01, 0.1, 1] : state.scale === 'sqrt' ? [0, 0.05, 0.25, 0.5, 1] : [0, 0.25, 0.5, 0.75, 1];
  for (const tick of ticks) {
    const px = 8 + place(apart === true ? tick * peak() : tick, state.scale, apart) * (width - 16);
    context.textAlign = tick === ticks[0] ? 'left' : tick === 1 ? 'right' : 'center';
    context.fillText(state.weighting === 4 ? much(Number((tick * peak()).toPrecision(2))) : apart === true && tick > 0 ? '+' + percent(tick).replace('.00', '').replace('.0', '') : tick < 0 ? '−' + percent(-tick).replace('.0', '') : percent(tick).replace('.00', '').replace('.0', ''), tick === ticks[0] ? 8 : tick === 1 ? width - 8 : px, 26);
  }
  if (value !== undefined && !Number.isNaN(value)) {
    const px = 8 + place(value, state.scale, apart) * (width - 16);
    context.fillStyle = theme('ink');
    context.strokeStyle = theme('paper');
    context.lineWidth = 2;
    context.beginPath();
    context.moveTo(px, 14);
    context.lineTo(px - 5, 2);
    context.lineTo(px + 5, 2);
    context.closePath();
    context.stroke();
    context.fill();
  }
}
