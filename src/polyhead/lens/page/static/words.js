// Pieces become whole words: what is looked at adds up over the pieces of a word, those who look are averaged.

import { Kept, ranked, Scene } from './data.js';

// The whole words along a ruler whose labels are there. `spans` are the first and the last piece of each.
class WholeWords {
  constructor(ruler) {
    const { scene, name, part, index, kind } = ruler, spans = [];
    for (let i = 0; i < ruler.count; i++) {
      if (i && ruler.words[i] !== undefined && ruler.words[i] === ruler.words[i - 1]) spans.at(-1)[1] = i;
      else spans.push([i, i]);
    }
    Object.assign(this, { ruler, spans, scene, name, part, index, kind, count: spans.length });
    this.signs = { has: (n) => spans[n] !== undefined && spans[n][0] === spans[n][1] && ruler.signs.has(spans[n][0]) };
    this.places = spans.map(([first, last]) => [ruler.places[first]?.[0] ?? 0, ruler.places[last]?.[1] ?? 0]);
  }

  load() {
    return null;
  }

  // Its pieces one after the other; those of one character are that character.
  label(n) {
    const [first, last] = this.spans[n] ?? [0, -1], { ruler } = this;
    if (first === last) return ruler.label(first);
    let label = '', before = null;
    for (let i = first; i <= last; i++) {
      const place = ruler.places[i]?.join();
      if (place !== before) label += ruler.label(i).replace(/⟨\d+\/\d+⟩$/, '');
      before = place;
    }
    return label;
  }
}

const spansOf = (ruler) => ruler.spans ?? Array.from({ length: ruler.count }, (_, i) => [i, i]);

// A recording word by word, wherever it is asked for piece by piece. Its labels and its whole maps must be at hand.
class WordScene extends Scene {
  constructor(pieces) {
    super();
    Object.assign(this, pieces, { pieces, matrices: new Kept(64), rows: new Kept(512), worded: new Map(), spanned: [] });
    this.calls = pieces.calls.map((call, id) => {
      const [rows, columns] = this.axes(id);
      return { ...call, queries: rows.count, keys: columns.count };
    });
  }

  axes(call) {
    return this.pieces.axes(call).map((ruler) => {
      if (ruler.kind !== 'words') return ruler;
      if (!this.worded.has(ruler)) this.worded.set(ruler, new WholeWords(ruler));
      return this.worded.get(ruler);
    });
  }

  spans(call) {
    return this.spanned[call] ??= this.axes(call).map(spansOf);
  }

  sink(call, key) {
    const [first, last] = this.spans(call)[1][key] ?? [0, -1];
    for (let j = first; j <= last; j++) if (!this.pieces.sink(call, j)) return false;
    return last >= first;
  }

  barred(call, query, key) {
    const [rows, columns] = this.spans(call);
    return this.pieces.barred(call, rows[query]?.[1] ?? 0, columns[key]?.[0] ?? 0);
  }

  small(call) {
    return this.pieces.small(call);
  }

  matrix(call, head, weighting) {
    return this.matrices.get(`${call}/${head}/${weighting}`, async () => {
      const found = await this.pieces.matrix(call, head, weighting);
      if (!found) return null;
      const [rows, columns] = this.spans(call), T = rows.length, S = columns.length, data = new Float32Array(T * S);
      rows.forEach(([a, b], n) => columns.forEach(([c, d], m) => {
        for (let i = a; i <= b; i++) for (let j = c; j <= d; j++) data[n * S + m] += found.data[i * found.S + j] / (found.signed ? 1 : b - a + 1);
      }));
      return { ...found, T, S, data };
    });
  }

  async strongest(kind, call, head, weighting, at) {
    const matrix = await this.matrix(call, head, weighting);
    if (!matrix) return null;
    const { T, S, data } = matrix;
    return kind === 'row' ? ranked(data.subarray(at * S, (at + 1) * S)) : ranked(data.filter((_, n) => n % S === at), T);
  }

  cell(call, head, query, key) {
    const [rows, columns] = this.spans(call), [[a, b], [c, d]] = [rows[query], columns[key]];
    return a === b && c === d ? this.pieces.cell(call, head, a, c) : null;
  }
}

// The recordings word by word, or why there is no such thing: {scenes, why}.
export async function wordByWord(scenes) {
  const worded = scenes.map((scene) => scene.calls.map((_, id) => id).filter((id) => scene.known(id) && scene.axes(id).some((ruler) => ruler.kind === 'words')));
  if (!worded.some((calls) => calls.length)) return { scenes: [], why: '' };
  if (!scenes.every((scene, n) => worded[n].every((id) => scene.small(id)))) return { scenes: [], why: 'too long to join' };
  for (const scene of scenes) for (const ruler of Object.values(scene.rulers)) if (ruler.kind === 'words') await ruler.load(0, ruler.count - 1);
  const made = scenes.map((scene) => new WordScene(scene));
  const joined = made.some((scene) => [...scene.worded.values()].some(({ spans }) => spans.some(([first, last]) => last > first)));
  return joined ? { scenes: made, why: '' } : { scenes: [], why: 'no pieces' };
}

// The same place after the switch: the word of a piece, or the first piece of a word.
export function across(call, query, key, from, to) {
  const [before, after] = [from, to].map((scene) => scene.axes(call).map(spansOf));
  const of = (axis, at) => {
    if (at < 0) return -1;
    const piece = from.pieces ? before[axis][at][0] : at;
    return to.pieces ? after[axis].findIndex(([first, last]) => piece >= first && piece <= last) : piece;
  };
  return { query: of(0, query), key: of(1, key) };
}
