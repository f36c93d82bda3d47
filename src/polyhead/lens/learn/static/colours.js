// Numbers become colours that the colour-blind and grey print can read, in light and in dark.

const RAMP = [[10, 28, 74], [44, 70, 120], [98, 106, 122], [150, 143, 112], [204, 183, 84], [255, 228, 60]]; // as in the terminal
const BELOW = [38, 98, 200];
const ABOVE = [214, 112, 20];

const mix = (a, b, t) => a.map((x, i) => x + (b[i] - x) * t);

// A weight from 0 to 1.
export function share(weight) {
  const place = Math.min(Math.max(weight, 0), 1) * (RAMP.length - 1);
  const step = Math.min(Math.floor(place), RAMP.length - 2);
  return mix(RAMP[step], RAMP[step + 1], place - step);
}

// A number between -top and top: blue below zero, the page's ground at zero, orange above.
export function signed(x, top, ground) {
  const t = Math.min(Math.abs(x) / (top || 1), 1) ** 0.75;
  return mix(ground, x < 0 ? BELOW : ABOVE, t);
}

export const blended = mix;
export const css = (rgb) => `rgb(${rgb.map(Math.round).join(",")})`;
export const ink = ([r, g, b]) => (0.2126 * (r / 255) ** 2.2 + 0.7152 * (g / 255) ** 2.2 + 0.0722 * (b / 255) ** 2.2 > 0.179 ? "#000" : "#fff");

// A colour of the style sheet, as numbers.
export function themed(node, name) {
  const text = getComputedStyle(node).getPropertyValue(name).trim();
  const digits = /^#(..)(..)(..)$/.exec(text);
  return digits ? digits.slice(1).map((d) => parseInt(d, 16)) : [128, 128, 128];
}
