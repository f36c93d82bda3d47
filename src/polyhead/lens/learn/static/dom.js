// Elements are made here, and text goes into them as text alone.

const MATH = "http://www.w3.org/1998/Math/MathML";
const SVG = "http://www.w3.org/2000/svg";

export const el = (tag, given = {}, ...children) => filled(document.createElement(tag), given, children);
export const svg = (tag, given = {}, ...children) => filled(document.createElementNS(SVG, tag), given, children);
export const math = (tag, given = {}, ...children) => filled(document.createElementNS(MATH, tag), given, children);

function filled(node, given, children) {
  for (const [name, value] of Object.entries(given)) {
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (value === true) node.setAttribute(name, "");
    else if (value !== false && value != null) node.setAttribute(name, value);
  }
  node.append(...children.flat().filter((child) => child != null && child !== false));
  return node;
}

// New children in the place of the old; those that are none are left out.
export const put = (node, ...children) => node.replaceChildren(...children.flat().filter((child) => child != null && child !== false));

// Every {place} of a sentence filled, in one go, so that a word that looks like a place stays as it is.
export const fill = (sentence, words) => sentence.replace(/\{(\w+)\}/g, (place, name) => (name in words ? String(words[name]) : place));

export const number = (x) => (x === -Infinity ? "–∞" : Math.abs(x) < 1000 ? x.toFixed(4) : x.toPrecision(4)).replace("-", "−");
export const percent = (x) => `${(100 * x).toFixed(0)} %`;
// A label that a reader can see: nothing in it may be invisible or turn the text round.
export const visible = (label) =>
  Array.from(label, (c) => (/[\p{C}\p{Zl}\p{Zp}]/u.test(c) && !"\u200c\u200d".includes(c) ? `‹U+${c.codePointAt(0).toString(16).toUpperCase().padStart(4, "0")}›` : c === " " ? "·" : c)).join("") || "‹›";
