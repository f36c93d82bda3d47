// Elements are made here and nowhere else: text is always text, and no markup is ever read.

const SVG = new Set(['svg', 'g', 'path', 'rect', 'text', 'line', 'title', 'circle', 'defs', 'pattern', 'image', 'tspan']);

// An element with its properties and what stands in it: make('button', {class: 'quiet', onclick}, 'Undo').
export function make(name, properties = {}, ...inside) {
  const element = SVG.has(name) && name !== 'title' ? document.createElementNS('http://www.w3.org/2000/svg', name) : document.createElement(name);
  for (const [key, value] of Object.entries(properties)) {
    if (value === undefined || value === null || value === false) continue;
    if (key.startsWith('on')) element.addEventListener(key.slice(2), value);
    else if (key === 'style') for (const [rule, to] of Object.entries(value)) element.style.setProperty(rule, to);
    else element.setAttribute(key, value === true ? '' : value);
  }
  fill(element, ...inside);
  return element;
}

export function fill(element, ...inside) {
  element.replaceChildren(...inside.flat(3).filter((part) => part !== null && part !== undefined && part !== false));
  return element;
}

// A token's label with the dots that stand for spaces made faint.
export function token(label, properties = {}, name = 'span') {
  const parts = String(label).split(/(·+)/u).filter(Boolean);
  return make(name, { ...properties, class: `token ${properties.class ?? ''}` }, parts.map((part) => part.startsWith('·') ? make('span', { class: 'dot' }, part) : part));
}

const colours = new Map();

// A drawing surface of so many CSS pixels, sharp on every screen.
export function surface(canvas, width, height) {
  const ratio = Math.min(3, devicePixelRatio || 1);
  const [w, h] = [Math.round(width * ratio), Math.round(height * ratio)];
  if (canvas.width !== w || canvas.height !== h) {
    canvas.width = w;
    canvas.height = h;
    canvas.style.width = `${width}px`;
    canvas.style.height = `${height}px`;
  }
  const context = canvas.getContext('2d');
  context.setTransform(ratio, 0, 0, ratio, 0, 0);
  context.clearRect(0, 0, width, height);
  return context;
}

// A colour of the theme, by its name in the style sheet.
export function theme(name) {
  if (!colours.has(name)) colours.set(name, getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim());
  return colours.get(name);
}

// The theme has changed: its colours are read anew.
export function repaint() {
  colours.clear();
}

export const calm = () => matchMedia('(prefers-reduced-motion: reduce)').matches;

export const percent = (w) => w >= 0.9995 ? '100 %' : w >= 0.1 ? `${(w * 100).toFixed(1)} %` : w >= 0.001 ? `${(w * 100).toFixed(2)} %` : w >= 1e-6 ? `${Number((w * 100).toPrecision(2))} %` : w > 0 ? '≈ 0 %' : '0 %';

export const digits = (x) => !Number.isFinite(x) ? String(x) : Math.abs(x) >= 1e5 || (x !== 0 && Math.abs(x) < 1e-4) ? x.toExponential(3) : String(Number(x.toPrecision(4)));

export const grouped = (n) => String(n).replace(/\B(?=(\d{3})+$)/g, '\u202f');
