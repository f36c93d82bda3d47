// A text in its own flow, each word tinted by how much it is looked at; only the lines in sight are made.

import { fill, make, token } from './dom.js';
import { css, fraction, ink, rgb } from './colour.js';
import { apart, pin, preview, state } from './state.js';
import { much, say } from './say.js';

const BLOCK = 256;

// The words of one ruler. `role` says whether they look ("query"), are looked at ("key"), or both ("both").
export function createRibbon(ruler, role) {
  const blocks = [], made = new Map(), text = make('div', { class: `ribbon ${ruler.count <= 80 ? 'short' : ''}`, role: 'group', 'aria-label': say(role === 'query' ? 'looks' : role === 'key' ? 'looked at' : 'text') });
  let heat = new Map(), query = -1, key = -1, faint = () => false;
  const watcher = new IntersectionObserver((seen) => {
    for (const entry of seen) if (entry.isIntersecting) build(Number(entry.target.dataset.n));
  }, { rootMargin: '600px' });
  for (let n = 0; n * BLOCK < ruler.count; n++) {
    const block = make('span', { class: 'block', 'data-n': n });
    blocks.push(block);
    watcher.observe(block);
    if (n >= 2) {
      block.classList.add('later');
      block.style.height = '9em';
    }
  }
  fill(text, blocks);

  async function build(n) {
    if (made.has(n)) return;
    made.set(n, []);
    const first = n * BLOCK, last = Math.min(ruler.count, first + BLOCK);
    await ruler.load(first, last - 1);
    const words = [], whole = [];
    for (let i = first; i < last; i++) {
      const label = ruler.label(i);
      const word = token(ruler.signs.has(i) ? label : label.replace(/^·/u, ''), { class: `piece ${ruler.signs.has(i) ? 'sign' : ''}`, 'data-i': i });
      if (label.includes('‹LF›') && !ruler.signs.has(i)) fill(word, label.split('‹LF›').flatMap((part, n) => n ? [make('span', { class: 'dot' }, '¶'), make('br'), part] : [part]));
      words.push(word);
      const before = ruler.places[i - 1]?.[1], here = ruler.places[i]?.[0];
      if (i > first && (label.startsWith('·') || ruler.signs.has(i) || ruler.signs.has(i - 1) || (here ?? 0) > (before ?? 0))) whole.push(' ');
      whole.push(word);
    }
    made.set(n, words);
    blocks[n].classList.remove('later');
    blocks[n].style.height = '';
    fill(blocks[n], whole);
    tint(n);
  }

  function tint(n) {
    for (const word of made.get(n) ?? []) {
      const i = Number(word.dataset.i), weight = heat.get(i);
      word.classList.toggle('query', i === query && role !== 'key');
      word.classList.toggle('key', i === key && role !== 'query');
      word.classList.toggle('hidden', faint(i));
      const signed = apart();
      if ((signed ? Math.abs(fraction(weight)) : weight) > 0.002 && !faint(i)) {
        const colour = rgb(weight, state.scale, signed || 'text');
        word.style.background = css(colour);
        word.style.color = ink(colour);
        word.title = much(weight);
      } else {
        word.style.background = word.style.color = '';
        word.removeAttribute('title');
      }
    }
  }

  // Tint by [place, weight] pairs, and mark who looks and who is looked at.
  function show(links, now, hidden) {
    heat = new Map(links);
    ({ query, key } = now);
    faint = hidden;
    for (const n of made.keys()) tint(n);
  }

  function reveal(i) {
    const block = blocks[Math.floor(i / BLOCK)];
    if (!block) return;
    build(Math.floor(i / BLOCK)).then(() => {
      const word = text.querySelector(`[data-i="${i}"]`);
      if (!word) return;
      const box = word.getBoundingClientRect(), frame = text.closest('.stage').getBoundingClientRect();
      if (box.top < frame.top || box.bottom > frame.bottom) word.scrollIntoView({ block: 'center' });
    });
  }

  const at = (event) => Number(event.target.closest?.('.piece')?.dataset.i ?? -1);
  const chosen = (event, i) => role === 'key' || (role === 'both' && event.shiftKey) ? { key: i } : { query: i, key: -1 };
  text.addEventListener('pointerover', (event) => {
    const i = at(event);
    if (i < 0) preview(-1, -1);
    else if (role === 'key' || (role === 'both' && event.shiftKey)) preview(-1, i);
    else preview(i, -1);
  });
  text.addEventListener('pointerleave', () => preview(-1, -1));
  text.addEventListener('click', (event) => {
    const i = at(event);
    if (i >= 0) pin(chosen(event, i));
  });
  build(0);
  return { element: text, show, reveal, stop: () => watcher.disconnect() };
}
