// Two small windows: one to find a word or a head, one that says which keys there are.

import { fill, grouped, make, token } from './dom.js';
import { pin, state } from './state.js';
import { partName, say } from './say.js';
import { plain } from './tokens.js';

const MOST_FOUND = 60;

function dialog(title, ...inside) {
  const close = make('button', { class: 'icon', 'aria-label': say('close'), onclick: () => element.close() }, '×');
  const element = make('dialog', { 'aria-label': title }, make('header', {}, make('h2', {}, title), close), inside);
  element.addEventListener('click', (event) => event.target === element && element.close());
  document.querySelectorAll(`dialog[aria-label="${CSS.escape(title)}"]`).forEach((old) => old.remove());
  document.getElementById('page').append(element);
  return element;
}

export function createFinder(app) {
  const input = make('input', { type: 'search', placeholder: say('find what'), 'aria-label': say('find'), autocomplete: 'off', spellcheck: 'false' });
  const note = make('p', { class: 'fine', role: 'status' }), list = make('ol', { class: 'found' });
  const element = dialog(say('find'), input, note, list);
  let turn = 0, timer = 0;

  async function search() {
    const mine = ++turn, text = input.value.trim(), scene = app.shown();
    if (!text) return fill(list), void (note.textContent = '');
    const head = /^(?:l(?:ayer)?|第)?\s*(\d+)\s*(?:层)?[\s.,·]*(?:h(?:ead)?|头)\s*(\d+)$/i.exec(text);
    if (head) {
      const found = scene.calls.map((call, id) => [call, id]).filter(([call]) => call.layer === Number(head[1]) && Number(head[2]) < call.heads && call.step === scene.calls[state.call].step);
      note.textContent = found.length ? '' : say('found none');
      return fill(list, found.map(([call, id]) => item(`${partName(call.part)} · ${say('layer head', call.layer, head[2])}`, () => pin({ call: id, head: Number(head[2]), heads: '' }))));
    }
    note.textContent = say('searching');
    const [rows, columns] = scene.axes(state.call), found = [], small = text.toLowerCase();
    for (const ruler of rows === columns ? [rows] : [rows, columns]) {
      await ruler.load(0, ruler.count - 1);
      if (mine !== turn) return;
      for (let i = 0; i < ruler.count; i++) if (plain(ruler.label(i)).toLowerCase().includes(small)) found.push([ruler, i]);
    }
    note.textContent = found.length ? say('found many', grouped(found.length)) : say('found none');
    fill(list, found.slice(0, MOST_FOUND).map(([ruler, i]) => item([token(ruler.label(i)), make('small', {}, ` ${grouped(i)}${app.titleOf(ruler)}`), ' ', make('span', { class: 'context' }, Array.from({ length: 9 }, (_, n) => i - 4 + n).filter((n) => n >= 0 && n < ruler.count).map((n) => plain(ruler.label(n))).join(' '))],
      (event) => { app.byKey = true; pin(ruler === columns && (rows !== columns || event.shiftKey) ? { key: i } : { query: i, key: -1 }); })));
  }

  const item = (label, go) => make('li', {}, make('button', { onclick: (event) => { element.close(); go(event); } }, label));
  input.addEventListener('input', () => {
    clearTimeout(timer);
    timer = setTimeout(search, 120);
  });
  element.addEventListener('keydown', (event) => {
    const all = [input, ...list.querySelectorAll('button')], at = all.indexOf(document.activeElement);
    if (event.key === 'ArrowDown' || event.key === 'ArrowUp') {
      event.preventDefault();
      all[Math.max(0, Math.min(all.length - 1, at + (event.key === 'ArrowDown' ? 1 : -1)))]?.focus();
    } else if (event.key === 'Enter' && at === 0) {
      event.preventDefault();
      list.querySelector('button')?.dispatchEvent(new MouseEvent('click', { bubbles: true, shiftKey: event.shiftKey }));
    }
  });
  return { open: () => { element.showModal(); input.select(); } };
}

export function createHelp() {
  const keys = [['← ↑ ↓ →', 'key arrows'], ['[  ]', 'key heads'], [',  .', 'key layers'], ['/', 'key find'], ['l', 'key l'], ['Esc', 'key esc'], ['Ctrl Z, Ctrl ⇧ Z', 'key undo'], ['+  −  0', 'key zoom'], ['w', 'key w'], ['s', 'key s'], ['j', 'key j'], ['v', 'key v'], ['p', 'key play']];
  const element = dialog(say('help'), make('p', {}, say('help text')), make('h3', {}, say('keys')), make('dl', { class: 'keys' }, keys.map(([key, name]) => [make('dt', {}, key.split(/ {2}/).map((k) => make('kbd', {}, k))), make('dd', {}, say(name))])), make('details', {}, make('summary', {}, say('why')), say('why text').split('\n').map((line) => make('p', {}, line))));
  return { open: () => element.showModal() };
}
