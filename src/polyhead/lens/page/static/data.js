// Paths become numbers: answers come from the page itself or from its own server, once, and stale requests are dropped.

import { half, unpacked } from './bytes.js';
import { labelled } from './tokens.js';
import { say } from './say.js';

const held = document.getElementById('answers');
export const ANSWERS = held ? JSON.parse(held.textContent) : null;

// In a notebook the window round this one hands in a port, through which it asks Python; numbers tell answers apart.
const PORT = document.querySelector('meta[name="answers"][content="port"]') && new Promise((ready) => {
  addEventListener('message', ({ source, data: left, ports: [port] }) => {
    if (source !== parent || !port) return;
    window.name = left;
    const waiting = new Map();
    port.onmessage = ({ data: { id, body, failed } }) => {
      const [done, fail] = waiting.get(id);
      waiting.delete(id);
      if (failed) fail(new Error(failed));
      else done(body);
    };
    let last = 0;
    const ask = (path) => new Promise((...ends) => {
      waiting.set(++last, ends);
      port.postMessage({ id: last, path });
    });
    ready({ ask, port });
  });
});

// The window round a notebook's page keeps where it was left, for when it is loaded anew.
export const remember = async (selection) => (await PORT)?.port.postMessage({ selection });

let asked = 0;

// The bytes of an answer; null where there is none. `data-asked` of the document says how many are on their way.
export async function get(path, signal) {
  const { dataset } = document.documentElement;
  dataset.asked = ++asked;
  try {
    return await bytesOf(path, signal);
  } finally {
    dataset.asked = --asked;
  }
}

async function bytesOf(path, signal) {
  if (ANSWERS) {
    if (!Object.hasOwn(ANSWERS, path)) return null;
    return unpacked(ANSWERS[path]);
  }
  if (PORT) return (await PORT).ask(path);
  const answer = await fetch(path, { signal }).catch((error) => {
    throw error.name === 'AbortError' ? error : new Error(say('gone'));
  });
  if (answer.status === 404) return null;
  if (!answer.ok) throw new Error(`${path}: ${answer.status}`);
  return answer.arrayBuffer();
}

export async function json(path) {
  const bytes = await get(path);
  return bytes && JSON.parse(new TextDecoder().decode(bytes));
}

const KINDS = [Uint8Array, Uint16Array, Float32Array, Uint32Array];

// A binary answer: 16 bytes of header, then numbers. `values` of u8 are what was sent; `weights` undoes the transfer.
export function numbers(bytes) {
  const head = new DataView(bytes), [version, dtype, transfer, rank] = [0, 1, 2, 3].map((i) => head.getUint8(i));
  if (version !== 1) throw new Error(`an answer of version ${version}; this page reads version 1`);
  const shape = [4, 8, 12].slice(0, rank).map((at) => head.getUint32(at, true));
  const raw = new KINDS[dtype](bytes, 16);
  const values = dtype === 1 ? Float32Array.from(raw, half) : raw;
  if (transfer !== 2) return { shape, raw, values, root: transfer === 1 };
  const most = head.getFloat32(12, true); // numbers with signs, as parts of this one
  const whole = dtype === 1 ? (v) => v * most : (v) => { const root = (v - 128) / 127; return root * Math.abs(root) * most; };
  return { shape, raw, values: Float32Array.from(values, whole), root: false, most };
}

export function weights({ values, root }) {
  return root ? Float32Array.from(values, (v) => (v / 255) ** 2) : values;
}

// The last so many answers by name, the oldest forgotten first; a failed one is asked again.
export class Kept {
  constructor(most) {
    this.most = most;
    this.map = new Map();
  }

  get(name, make) {
    if (this.map.has(name)) {
      const found = this.map.get(name);
      this.map.delete(name);
      this.map.set(name, found);
      return found;
    }
    const made = make();
    this.map.set(name, made);
    if (made?.catch) made.catch(() => this.map.delete(name));
    if (this.map.size > this.most) this.map.delete(this.map.keys().next().value);
    return made;
  }

  peek(name) {
    return this.map.get(name);
  }
}

const CHUNK = 2048, WHOLE = 32000, SIDE = 256, TILES = 16, TOP = 64;

// What stands along an axis: words, patches of a picture, frames of a sound, or bare places.
export class Ruler {
  constructor(scene, name, part, index) {
    Object.assign(this, { scene, name, part, index, kind: part.kind, count: part.count, chunks: [], labels: [], places: [], words: [], signs: new Set() });
    this.text = [...(part.text ?? scene.info.text ?? '')];
    for (let i = 0; i < (part.before ?? 0); i++) this.signs.add(i);
  }

  // Labels of the places from `first` to `last`, there or on their way.
  load(first, last) {
    if (this.kind !== 'words') return null; // others have none
    const wanted = [];
    for (let n = Math.floor(Math.max(0, first) / CHUNK); n <= Math.floor(Math.min(this.count - 1, last) / CHUNK); n++) {
      this.chunks[n] ??= this.fetch(n);
      if (this.chunks[n] !== true) wanted.push(this.chunks[n]);
    }
    return wanted.length ? Promise.all(wanted) : null;
  }

  async fetch(n) {
    const found = await json(`${this.scene.prefix}ruler/${this.index}/${n}.json`);
    if (found) {
      const places = found.places ?? [];
      labelled(found.labels, places, found.text === undefined ? this.text : [...found.text], found.text_start).forEach((label, i) => {
        this.labels[n * CHUNK + i] = label;
        this.places[n * CHUNK + i] = places[i] ?? [0, 0];
        this.words[n * CHUNK + i] = found.words?.[i];
      });
      found.signs?.forEach((i) => this.signs.add(i));
    }
    this.chunks[n] = true;
  }

  // A stretch of the same ruler, as a call sees it that has a cache or is an early step; the whole one is itself.
  from(offset, count) {
    if (!offset && count === this.count) return this;
    this.stretches ??= new Map();
    const name = `${offset}+${count}`;
    if (!this.stretches.has(name)) this.stretches.set(name, new Stretch(this, offset, count));
    return this.stretches.get(name);
  }

  label(i) {
    const { part } = this;
    if (this.kind === 'frames') return `${((i + 0.5) * part.seconds).toFixed(2)} s`;
    if (this.kind === 'patches') {
      const before = part.before ?? 0;
      if (i < before) return part.before_names?.[i] ?? (i ? `[REG ${i}]` : '[CLS]');
      return say('row column', Math.floor((i - before) / part.columns) + 1, (i - before) % part.columns + 1);
    }
    if (this.labels[i] === undefined) this.load(i, i);
    return this.labels[i] ?? `${i}`;
  }
}

class Stretch {
  constructor(whole, offset, count) {
    const { scene, name, part, index, kind } = whole;
    Object.assign(this, { whole, offset, count, scene, name, part, index, kind });
    this.signs = { has: (i) => whole.signs.has(i + offset) };
    [this.places, this.words] = ['places', 'words'].map((name) => new Proxy([], { get: (_, i) => whole[name][Number(i) + offset] }));
  }

  load(first, last) {
    return this.whole.load(first + this.offset, Math.min(last, this.count - 1) + this.offset);
  }

  label(i) {
    return this.whole.label(i + this.offset);
  }
}

// One recording: its calls, rulers and weights, as far as they were asked for.
export class Scene {
  static async open(prefix) {
    const info = await json(`${prefix}scene.json`);
    if (!info) throw new Error('no scene.json');
    const scene = new Scene();
    Object.assign(scene, { prefix, info, calls: info.calls, matrices: new Kept(64), rows: new Kept(512), bits: new Kept(256) });
    scene.rulers = Object.fromEntries(Object.entries(info.parts).map(([name, part], index) => [name, new Ruler(scene, name, part, index)]));
    return scene;
  }

  axes(call) {
    const { rows, columns, offset, queries, keys } = this.calls[call];
    return [this.rulers[rows].from(offset ?? 0, queries), this.rulers[columns].from(0, keys)];
  }

  // Whether a key is the first word of all or a separator, which much is looked at and little is taken from.
  sink(call, key) {
    return (this.calls[call].kind === 'self' && key === 0) || this.axes(call)[1].signs.has(key);
  }

  // Whether a query may not look at a key.
  barred(call, query, key) {
    const { causal, queries, keys } = this.calls[call];
    return Boolean(causal) && key > query + keys - queries;
  }

  path(kind, ...rest) {
    return `${this.prefix}${kind}/${rest.join('/')}.bin`;
  }

  async ask(kind, ...rest) {
    const bytes = await get(this.path(kind, ...rest));
    return bytes && numbers(bytes);
  }

  thumbs(call) {
    return this.bits.get(`thumbs/${call}`, () => this.ask('thumbs', call));
  }

  metrics() {
    return this.bits.get('metrics', async () => {
      const { calls, info: { metrics } } = this, H = Math.max(...calls.map((call) => call.heads)), M = metrics.length;
      if (calls.length * H * M <= 16384) {
        const bytes = await get(`${this.prefix}metrics.bin`);
        return bytes && numbers(bytes);
      }
      const values = new Float32Array(calls.length * H * M).fill(NaN); // too many for one answer
      for (let call = 0; call < calls.length; call++) values.set((await this.ask('metrics', call))?.values ?? [], call * H * M);
      return { shape: [calls.length, H, M], values };
    });
  }

  // Whether its weights can be had at all; of a summary there is only the small picture.
  known(call) {
    return (this.calls[call].level ?? 'rows') === 'rows';
  }

  // Whether every weight of a head can be held here.
  small(call) {
    const { queries, keys } = this.calls[call];
    return this.known(call) && (queries * keys <= WHOLE || Math.ceil(queries / SIDE) * Math.ceil(keys / SIDE) <= TILES);
  }

  // All weights [T, S] of a head, or null. weighting: bit 0 by value norm, bit 1 without sinks; rows sum to one again. Bit 2:
  // times their gradients, signed, and rows sum to what they do.
  matrix(call, head, weighting) {
    if (!this.small(call) || (weighting & 4 && !this.calls[call].gradients)) return Promise.resolve(null);
    return this.matrices.get(`${call}/${head}/${weighting}`, async () => {
      const { queries: T, keys: S } = this.calls[call];
      let data, exact = T * S <= WHOLE;
      if (exact) {
        const whole = await (weighting & 4 ? this.ask('whole', call, head, 4) : this.ask('whole', call, head));
        if (whole) data = await this.weighed(call, head, weighting, Float32Array.from(whole.values));
      }
      if (!data) {
        exact = false;
        data = await this.tiled(call, head, weighting);
      }
      return data && { T, S, data, exact, signed: weighting > 3 };
    });
  }

  async weighed(call, head, weighting, data) {
    const { queries: T, keys: S, heads } = this.calls[call];
    const factor = new Float32Array(S).fill(1);
    if (weighting & 1) {
      const at = heads * S > WHOLE ? [call, head] : [call], norms = await this.bits.get(`norms/${at}`, () => this.ask('norms', ...at));
      if (!norms) return null;
      factor.set(at[1] === undefined ? norms.values.subarray(head * S, (head + 1) * S) : norms.values);
    }
    if (weighting & 2) {
      await this.axes(call)[1].load(0, S);
      for (let j = 0; j < S; j++) if (this.sink(call, j)) factor[j] = 0;
    }
    if (weighting) {
      for (let i = 0; i < T; i++) {
        const row = data.subarray(i * S, (i + 1) * S);
        let sum = 0;
        for (let j = 0; j < S; j++) sum += row[j] *= factor[j];
        if (sum > 0 && weighting < 4) for (let j = 0; j < S; j++) row[j] /= sum;
      }
    }
    return data;
  }

  async tiled(call, head, weighting) {
    const { queries: T, keys: S } = this.calls[call], data = new Float32Array(T * S), asked = [];
    const sent = weighting & 4 || (ANSWERS ? 0 : this.info.sinks ? weighting : weighting & 1); // a file keeps plain weights
    for (let i = 0; i < T; i += SIDE) {
      for (let j = 0; j < S; j += SIDE) asked.push(this.ask('tile', call, head, sent, 0, i / SIDE, j / SIDE).then((tile) => tile && [i, j, tile]));
    }
    for (const found of await Promise.all(asked)) {
      if (!found) return null;
      const [i, j, tile] = found, [rows, columns] = tile.shape, part = weights(tile);
      for (let r = 0; r < rows; r++) data.set(part.subarray(r * columns, (r + 1) * columns), (i + r) * S + j);
    }
    return sent === weighting ? data : this.weighed(call, head, weighting & ~(sent & 1), data);
  }

  // What the server says of some rows of a head, spread over the map.
  sampled(what, call, head, weighting) {
    const sent = this.info.sinks ? weighting : weighting & 1;
    return this.bits.get(`${what}/${call}/${head}/${sent}`, () => this.known(call) ? this.ask(what, call, head, sent) : null);
  }

  // The strongest keys of a query ("row"), or the queries that look most at a key ("column"): {sum, held, links}.
  async strongest(kind, call, head, weighting, at) {
    return this.rows.get(`${kind}/${call}/${head}/${weighting}/${at}`, async () => {
      const { queries: T, keys: S } = this.calls[call], from = async () => {
        const data = (await this.matrix(call, head, weighting))?.data;
        return data && (kind === 'row' ? ranked(data.subarray(at * S, (at + 1) * S)) : ranked(data.filter((_, n) => n % S === at), T));
      };
      if (!this.known(call)) return null;
      const whole = T * S <= WHOLE && await from();
      if (whole) return whole;
      const found = kind === 'column' && weighting % 4 && T * S > 2 ** 24 ? null : await this.ask(kind, call, head, this.info.sinks ? weighting : weighting & 5, at);
      if (!found) {
        const here = ANSWERS && await from();
        if (here || kind === 'row' || !weighting || weighting > 3) return here;
        const plain = await this.strongest(kind, call, head, 0, at);
        return plain && { ...plain, plain: true };
      }
      const links = [];
      for (let n = 2; n < found.values.length; n += 2) if (found.values[n] >= 0) links.push([found.values[n], found.values[n + 1]]);
      return { sum: found.values[0], held: found.values[1], links };
    });
  }

  cell(call, head, query, key) {
    if (!this.known(call)) return null;
    return this.rows.get(`cell/${call}/${head}/${query}/${key}`, () => this.ask('cell', call, head, query, key));
  }

  // A picture or a sound of a ruler, put together from its pieces, as an address the page may show; null if there is none.
  async file(what, { index, part }) {
    const media = part.media?.[what];
    if (!media) return null;
    return this.bits.get(`${what}/${index}`, async () => {
      const pieces = await Promise.all(Array.from({ length: media.chunks }, (_, n) => get(`${this.prefix}${what}/${index}/${n}.bin`)));
      return pieces.every(Boolean) ? URL.createObjectURL(new Blob(pieces, { type: media.type })) : null;
    });
  }
}

// The strongest of a row, or of what a key receives from so many queries: {sum, held, links}.
export function ranked(row, queries) {
  const links = Array.from(row, (w, i) => [i, w]).filter(([, w]) => w).sort((a, b) => Math.abs(b[1]) - Math.abs(a[1]) || a[0] - b[0]);
  const size = links.reduce((s, [, w]) => s + Math.abs(w), 0), some = queries === undefined ? links.slice(0, TOP) : links;
  let held = 0;
  for (let s = 0; held < links.length && s < 0.8 * size; held++) s += Math.abs(links[held][1]);
  return { sum: some.reduce((s, [, w]) => s + w, 0), held: queries ?? held, links: links.slice(0, TOP) };
}
