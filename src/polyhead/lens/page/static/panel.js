// A picture or a sound as the place where one looks: patches with heat over them, frames under a moving cursor.

import { fill, make, surface, theme } from './dom.js';
import { css, pixels, place, rgb } from './colour.js';
import { apart, pin, preview, state } from './state.js';
import { say } from './say.js';

// Draw the weights of patches over a picture: what is not looked at stays dark.
export function overlay(context, image, part, weights, x, y, width, height, smooth) {
  const before = part.before ?? 0;
  if (image) context.drawImage(image, x, y, width, height);
  else {
    context.fillStyle = theme('void');
    context.fillRect(x, y, width, height);
  }
  if (!weights) return;
  const values = weights.subarray(before, before + part.rows * part.columns);
  context.imageSmoothingEnabled = smooth;
  if (apart()) { // dark, and lit in one of two colours
    context.fillStyle = 'rgb(0 0 0 / 0.55)';
    context.fillRect(x, y, width, height);
    context.drawImage(pixels(values, part.rows, part.columns, state.scale, { apart: 'lit', alpha: (p) => Math.min(1, Math.abs(2 * p - 1)) }), x, y, width, height);
    context.imageSmoothingEnabled = true;
    return;
  }
  const lit = document.createElement('canvas');
  const most = place(values.reduce((a, b) => Math.max(a, b), 0), state.scale) || 1;
  lit.width = part.columns;
  lit.height = part.rows;
  const dots = lit.getContext('2d'), shade = dots.createImageData(part.columns, part.rows);
  values.forEach((value, n) => { // the ends of the ramp: dark over what is not looked at, a glow over what is
    const p = place(value, state.scale) / most, cover = 0.7 * (1 - p) ** 1.2, glow = 0.4 * p ** 1.6, alpha = Math.max(1e-3, cover + glow);
    shade.data.set([glow / alpha * 254, (cover * 18 + glow * 232) / alpha, (cover * 52 + glow * 56) / alpha, alpha * 255], n * 4);
  });
  dots.putImageData(shade, 0, 0);
  context.drawImage(lit, x, y, width, height);
  context.imageSmoothingEnabled = true;
}

export async function picturesOf(ruler) {
  const address = await ruler.scene.file('picture', ruler);
  return address ? loaded(address) : null;
}

export function loaded(address) {
  return new Promise((done) => {
    const image = new Image();
    image.onload = () => done(image);
    image.onerror = () => done(null);
    image.src = address;
  });
}

// A picture of patches. Pointing at one previews it, a click chooses it.
export function createPatches(ruler, role) {
  const { part } = ruler, before = part.before ?? 0;
  const canvas = make('canvas', { class: 'patches', role: 'img', 'aria-label': say('patches of', part.rows, part.columns) });
  const chips = make('div', { class: 'chips' });
  for (let i = 0; i < before; i++) chips.append(make('button', { class: 'chip', 'data-i': i, onclick: () => choose(i), onpointerenter: () => point(i), onpointerleave: () => preview(-1, -1) }, make('i'), ruler.label(i)));
  const frame = make('div', { class: 'picture' }, canvas, chips);
  let image = null, weights = null, now = { query: -1, key: -1 }, smooth = false, width = 300, height = 300, hidden = () => false;
  picturesOf(ruler).then((found) => {
    image = found;
    draw();
  });

  const choose = (i, other) => pin(role === 'key' || other ? { key: i } : { query: i, key: -1 });
  const point = (i, other) => role === 'key' || other ? preview(-1, i) : preview(i, -1);

  function draw() {
    const shape = (part.width ?? part.columns) / (part.height ?? part.rows), box = frame.parentElement?.clientWidth ?? 360;
    width = Math.max(160, Math.min(box - 8, 560, (frame.dataset.room ?? 470) * shape));
    height = width / shape;
    const context = surface(canvas, width, height);
    overlay(context, image, part, weights, 0, 0, width, height, smooth);
    const [w, h] = [width / part.columns, height / part.rows];
    context.strokeStyle = 'rgb(255 255 255 / 0.13)';
    context.lineWidth = 1;
    context.beginPath();
    for (let c = 1; c < part.columns; c++) context.rect(c * w, 0, 0, height);
    for (let r = 1; r < part.rows; r++) context.rect(0, r * h, width, 0);
    context.stroke();
    const box2 = (i, colour, label) => {
      if (i < before) return;
      const px = (i - before) % part.columns * w, py = Math.floor((i - before) / part.columns) * h;
      context.lineWidth = 5;
      context.strokeStyle = '#000';
      context.strokeRect(px, py, w, h);
      context.lineWidth = 2.5;
      context.strokeStyle = colour;
      context.strokeRect(px, py, w, h);
      context.font = `600 12px ${theme('face')}`;
      const wide = context.measureText(label).width + 8, lx = Math.min(px, width - wide), ly = py > 20 ? py - 19 : py + h + 3;
      context.fillStyle = '#000';
      context.fillRect(lx, ly, wide, 16);
      context.fillStyle = colour;
      context.fillText(label, lx + 4, ly + 12);
    };
    if (role !== 'query') box2(now.key, '#ffb45c', say('looked at'));
    if (role !== 'key') box2(now.query, '#8ab8ff', say('looks'));
    for (const chip of chips.children) {
      const i = Number(chip.dataset.i), weight = weights?.[i] ?? 0;
      chip.setAttribute('aria-pressed', i === (role === 'key' ? now.key : now.query));
      chip.firstChild.style.background = weights && !hidden(i) ? css(rgb(weight, state.scale, apart())) : 'transparent';
      chip.classList.toggle('hidden', hidden(i));
    }
  }

  const at = (event) => {
    const box = canvas.getBoundingClientRect(), c = Math.floor((event.clientX - box.left) / width * part.columns), r = Math.floor((event.clientY - box.top) / height * part.rows);
    return c < 0 || r < 0 || c >= part.columns || r >= part.rows ? -1 : before + r * part.columns + c;
  };
  canvas.addEventListener('pointermove', (event) => at(event) >= 0 && point(at(event), event.shiftKey));
  canvas.addEventListener('pointerleave', () => preview(-1, -1));
  canvas.addEventListener('click', (event) => at(event) >= 0 && choose(at(event), event.shiftKey));

  return {
    element: frame,
    show(links, next, out, row) {
      weights = row;
      now = next;
      hidden = out;
      draw();
    },
    smooth(yes) {
      smooth = yes;
      draw();
    },
    resize: draw, reveal() {}, stop() {}, canvas,
  };
}

// The log-mel picture of a sound with time below it; pointing at a moment previews it.
export function createFrames(ruler, role, player) {
  const { part } = ruler, canvas = make('canvas', { class: 'frames', role: 'img', 'aria-label': say('sound of', (part.duration ?? part.count * part.seconds).toFixed(1)) });
  const frame = make('div', { class: 'mel' }, canvas);
  let image = null, weights = null, now = { query: -1, key: -1 };
  ruler.scene.file('mel', ruler).then(async (address) => {
    image = address && await loaded(address);
    draw();
  });

  function draw() {
    const width = Math.max(200, (frame.clientWidth || 600)), height = 156, mel = 118;
    const context = surface(canvas, width, height);
    if (image) context.drawImage(image, 0, 0, width, mel);
    else {
      context.fillStyle = theme('void');
      context.fillRect(0, 0, width, mel);
    }
    if (weights) {
      context.imageSmoothingEnabled = false;
      context.drawImage(pixels(weights, 1, weights.length, state.scale, { apart: apart() }), 0, mel + 2, width, 16);
    }
    const each = width / part.count, line = (i, colour) => {
      if (i < 0) return;
      context.fillStyle = colour;
      context.fillRect(i * each, 0, Math.max(2, each), mel + 18);
    };
    if (role !== 'query') line(now.key, theme('key'));
    if (role !== 'key') line(now.query, theme('query'));
    const duration = part.count * part.seconds, step = [0.1, 0.2, 0.5, 1, 2, 5, 10, 30, 60].find((s) => s / duration * width >= 52) ?? 120;
    context.fillStyle = theme('soft');
    context.font = `11px ${theme('face')}`;
    for (let t = 0; t <= duration; t += step) {
      context.fillRect(t / duration * width, mel + 19, 1, 4);
      if (t / duration * width < width - 24) context.fillText(`${Number(t.toFixed(1))} s`, t / duration * width + 3, mel + 33);
    }
    if (player?.time() !== undefined) {
      context.fillStyle = theme('ink');
      context.fillRect(player.time() / duration * width - 1, 0, 2, mel + 20);
    }
  }

  const at = (event) => {
    const box = canvas.getBoundingClientRect();
    return Math.max(0, Math.min(part.count - 1, Math.floor((event.clientX - box.left) / box.width * part.count)));
  };
  canvas.addEventListener('pointermove', (event) => role === 'key' ? preview(-1, at(event)) : preview(at(event), -1));
  canvas.addEventListener('pointerleave', () => preview(-1, -1));
  canvas.addEventListener('click', (event) => {
    pin(role === 'key' ? { key: at(event) } : { query: at(event), key: -1 });
    player?.seek(at(event) * part.seconds);
  });
  return {
    element: frame,
    show(links, next, out, row) {
      weights = row;
      now = next;
      draw();
    },
    resize: draw, reveal() {}, stop() {}, canvas,
  };
}

// The sound itself: a button that plays it, and the moment it has come to.
export function createPlayer(ruler, moved) {
  const sound = make('audio', { preload: 'auto' });
  const button = make('button', { class: 'play', disabled: true, onclick: () => sound.paused ? sound.play() : sound.pause() }, '▶ ', say('play'));
  let running = false;
  ruler.scene.file('sound', ruler).then((address) => {
    if (!address) return;
    sound.src = address;
    button.disabled = false;
  });
  function tick() {
    moved();
    if (running) requestAnimationFrame(tick);
  }
  sound.addEventListener('play', () => {
    running = true;
    fill(button, '❚❚ ', say('pause'));
    tick();
  });
  sound.addEventListener('pause', () => {
    running = false;
    fill(button, '▶ ', say('play'));
  });
  return { button, toggle: () => button.click(), time: () => sound.src && (running || sound.currentTime > 0) ? sound.currentTime : undefined, seek: (t) => { if (sound.src) sound.currentTime = t; moved(); }, stop: () => sound.pause(), playing: () => running };
}
