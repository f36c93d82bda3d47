// Sentences with their words filled in, and numbers as a lesson writes them.

// Every {place} of a sentence filled, in one go, so that a word that looks like a place stays as it is.
export const filled = (sentence, words) => sentence.replace(/\{(\w+)\}/g, (place, name) => (name in words ? String(words[name]) : place));

// Four digits after the point, or four that count where it is large.
export const number = (x) => (x === -Infinity ? '–∞' : Math.abs(x) < 1000 ? x.toFixed(4) : x.toPrecision(4)).replace('-', '−');

export const rounded = (w) => `${(100 * w).toFixed(0)} %`;
