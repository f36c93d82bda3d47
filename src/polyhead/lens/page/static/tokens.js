// Tokens become labels that are safe to read: control characters by name, spaces as dots, pieces of a character as such.

const NAMED = { 0: 'NUL', 7: 'BEL', 8: 'BS', 9: 'TAB', 10: 'LF', 13: 'CR', 27: 'ESC', 127: 'DEL', 160: 'NBSP', 173: 'SHY', 0x200b: 'ZWSP',
  0x2028: 'LSEP', 0x2029: 'PSEP', 0x202e: 'RLO', 0x3000: 'IDSP', 0xfeff: 'BOM', 0xfffd: 'bytes' };
const UNSEEN = /[\uFFFD\p{Cc}\p{Cf}\p{Cs}\p{Co}\p{Cn}\p{Zl}\p{Zp}\p{Zs}]/u;
const JOINERS = '\u200c\u200d'; // they spell words of some scripts, and emoji

// A token as one line of text without anything that acts: '‹LF›' for a line feed, '·' for a space, '‹›' for nothing.
export function shown(token) {
  if (!token) return '‹›';
  let label = '';
  for (const character of token) {
    if (character === ' ') label += '·';
    else if (JOINERS.includes(character) && label && token.length > 1) label += character;
    else if (UNSEEN.test(character)) {
      const code = character.codePointAt(0);
      label += `‹${NAMED[code] ?? 'U+' + code.toString(16).toUpperCase().padStart(4, '0')}›`;
    } else label += character;
  }
  return /^\p{M}/u.test(label) ? '◌' + label : label;
}

// The same without the dots at its ends, for where only the word is meant.
export function plain(label) {
  return label.replace(/^·+(?=.)|(?<=.)·+$/gu, '');
}

const BYTE = /^<0x[0-9A-F]{2}>$/i;

// Labels of pieces from the text they stand for: a whole word reads as in the text, a sign keeps its name, and the
// bytes of one character read '中⟨1/3⟩', never as broken characters.
export function labelled(names, places, text, begins = 0) {
  return names.map((name, i) => {
    const [start, end] = places[i] ?? [0, 0];
    if (!text || end <= start) return shown(name);
    let first = i, last = i;
    while (same(places[first - 1], places[i])) first--;
    while (same(places[last + 1], places[i])) last++;
    const whole = shown(text.slice(start - begins, end - begins).join(''));
    if (last > first) return `${whole}⟨${i - first + 1}/${last - first + 1}⟩`;
    return BYTE.test(name) && end - start > 1 ? shown(name) : whole;
  });
}

function same(a, b) {
  return a !== undefined && b !== undefined && a[1] > a[0] && a[0] === b[0] && a[1] === b[1];
}
