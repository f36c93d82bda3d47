// Weights become colours: cividis for weights, blue to orange for differences; lightness rises with the value.

const CIVIDIS = [[0, 34, 78], [18, 53, 112], [59, 73, 108], [87, 93, 109], [112, 113, 115], [138, 134, 120], [165, 156, 116], [195, 179, 105], [225, 204, 85], [254, 232, 56]];
const APART = [[8, 64, 129], [43, 112, 183], [120, 170, 217], [192, 214, 235], [242, 242, 240], [248, 214, 178], [240, 164, 96], [207, 107, 25], [140, 62, 4]];
const APART_DARK = [[140, 200, 255], [84, 158, 228], [42, 104, 166], [28, 58, 92], [34, 36, 42], [92, 58, 24], [160, 96, 28], [224, 140, 50], [255, 190, 110]];

// The same behind words: what is not looked at is the page itself, and more stands out more from it.
const BEHIND = [[251, 251, 249], [254, 245, 200], [250, 228, 112], [214, 190, 90], [150, 143, 118], [87, 93, 109], [18, 53, 112]];
const BEHIND_DARK = [[18, 20, 26], [18, 38, 78], [40, 62, 108], [87, 93, 109], [138, 134, 120], [195, 179, 105], [254, 232, 56]];

function table(anchors) {
  return Uint8ClampedArray.from({ length: 256 * 3 }, (_, n) => {
    const at = Math.floor(n / 3) / 255 * (anchors.length - 1), low = Math.min(Math.floor(at), anchors.length - 2);
    return anchors[low][n % 3] + (anchors[low + 1][n % 3] - anchors[low][n % 3]) * (at - low);
  });
}

const WEIGHTS = table(CIVIDIS), DIFFERENCES = table(APART), DIFFERENCES_DARK = table(APART_DARK), TEXT = table(BEHIND), TEXT_DARK = table(BEHIND_DARK);

const SMALL = 1e-4; // where the logarithmic scale becomes linear
export const SCALES = {
  sqrt: [Math.sqrt, (p) => p * p],
  linear: [(w) => w, (p) => p],
  log: [(w) => Math.log1p(w / SMALL) / Math.log1p(1 / SMALL), (p) => SMALL * Math.expm1(p * Math.log1p(1 / SMALL))],
};

// The number at the end of the ramp of what has a sign: 1 of differences of weights, the largest there is of gradients.
let largest = 1;
export const reach = (most) => { largest = most || 1; };
export const peak = () => largest;

// What has a sign as a part of that number.
export const fraction = (x) => Math.max(-1, Math.min(1, x / largest));

// The place of a weight on the ramp, 0 to 1; of what has a sign, 0.5 is none.
export function place(weight, scale, apart) {
  const [up] = SCALES[scale];
  if (apart !== true && apart !== 'lit') return up(Math.min(1, Math.max(0, weight)));
  return 0.5 + Math.sign(weight) * up(Math.abs(fraction(weight))) / 2;
}

export function dark() {
  const chosen = document.documentElement.dataset.theme;
  return chosen ? chosen === 'dark' : matchMedia('(prefers-color-scheme: dark)').matches;
}

export function ramp(apart) {
  if (apart === 'text') return dark() ? TEXT_DARK : TEXT;
  if (apart === 'lit') return DIFFERENCES_DARK;
  return apart ? (dark() ? DIFFERENCES_DARK : DIFFERENCES) : WEIGHTS;
}

export function rgb(weight, scale, apart = false) {
  const at = Math.round(place(weight, scale, apart) * 255) * 3, colours = ramp(apart);
  return [colours[at], colours[at + 1], colours[at + 2]];
}

export const css = ([r, g, b], alpha = 1) => `rgb(${r} ${g} ${b} / ${alpha})`;

// Black or white, whichever stands out more on a colour (WCAG 2.2).
export function ink([r, g, b]) {
  const [x, y, z] = [r, g, b].map((v) => (v /= 255) <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
  return 0.2126 * x + 0.7152 * y + 0.0722 * z > 0.179 ? '#000' : '#fff';
}

// Values as a small canvas of one pixel each. `hidden(row, column)` cells stay clear.
export function pixels(values, rows, columns, scale, { apart = false, hidden, alpha } = {}) {
  const canvas = document.createElement('canvas');
  canvas.width = columns;
  canvas.height = rows;
  const context = canvas.getContext('2d'), image = context.createImageData(columns, rows), data = image.data, colours = ramp(apart);
  for (let n = 0, at = 0; n < rows * columns; n++, at += 4) {
    if (Number.isNaN(values[n]) || hidden?.(Math.floor(n / columns), n % columns)) continue;
    const p = place(values[n], scale, apart), c = Math.round(p * 255) * 3;
    data[at] = colours[c];
    data[at + 1] = colours[c + 1];
    data[at + 2] = colours[c + 2];
    data[at + 3] = alpha ? 255 * alpha(p) : 255;
  }
  context.putImageData(image, 0, 0);
  return canvas;
}
