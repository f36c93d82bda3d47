// One selection for the whole page: it lives in the address, can be undone, and whoever shows it is hearers when it changes.

const NUMBERS = ['call', 'head', 'query', 'key', 'weighting', 'sinks', 'row', 'station'];
const TEXTS = ['target', 'view', 'heads', 'scale', 'order', 'side', 'by', 'lang', 'theme'];
const DEFAULTS = { call: 0, head: 0, query: -1, key: -1, weighting: 1, sinks: 0, row: 0, station: 0, target: '', view: '', heads: '', scale: 'sqrt', order: 'layer', side: '', by: '', lang: '', theme: '' };

export const state = { ...DEFAULTS };
export const hover = { query: -1, key: -1 };

// Whether what is shown has a sign.
export const apart = () => state.weighting === 4 || state.side === 'd';

const hearers = [], past = [], future = [];
let begun = { ...DEFAULTS }, waiting = null;

export function listen(hear) {
  hearers.push(hear);
}

// Tell everybody, once before the next picture: `changed` is what is no longer as it was.
function tell(changed) {
  if (!waiting) {
    waiting = new Set();
    requestAnimationFrame(() => {
      const now = waiting;
      waiting = null;
      for (const hear of hearers) hear(now);
    });
  }
  for (const name of changed) waiting.add(name);
}

// Change the selection for good, so that it can be undone.
export function pin(change) {
  const before = { ...state }, changed = Object.keys(change).filter((name) => state[name] !== change[name]);
  preview(-1, -1);
  if (!changed.length) return;
  past.push(before);
  if (past.length > 500) past.shift();
  future.length = 0;
  settle({ ...state, ...change });
}

// Look at a cell without choosing it.
export function preview(query, key) {
  if (hover.query === query && hover.key === key) return;
  Object.assign(hover, { query, key });
  tell(['hover']);
}

// What is looked at now: what the pointer is on, or else what was chosen.
export function current() {
  return { query: hover.query >= 0 ? hover.query : state.query, key: hover.key >= 0 ? hover.key : hover.query >= 0 ? -1 : state.key };
}

export const canUndo = () => past.length > 0;
export const canRedo = () => future.length > 0;

export function undo() {
  step(past, future);
}

export function redo() {
  step(future, past);
}

function step(from, to) {
  if (!from.length) return;
  to.push({ ...state });
  settle(from.pop());
}

function settle(next) {
  const changed = Object.keys(next).filter((name) => state[name] !== next[name]);
  Object.assign(state, next);
  try {
    history.replaceState(null, '', address());
  } catch {} // a frame without an address of its own
  tell([...changed, 'past']);
}

// The fragment that brings one back to what is seen: only what is not as it was to begin with.
export function address(from = state) {
  const said = [...NUMBERS, ...TEXTS].filter((name) => from[name] !== begun[name]).map((name) => `${name}=${encodeURIComponent(from[name])}`);
  return '#' + said.join('&');
}

// What the address says, or, in a frame that has none, its name.
function read() {
  const found = { ...begun };
  for (const [name, value] of new URLSearchParams(location.hash.slice(1) || window.name)) {
    if (NUMBERS.includes(name) && /^-?\d{1,9}$/.test(value)) found[name] = Number(value);
    if (TEXTS.includes(name)) found[name] = value;
  }
  return found;
}

// Start from what the address says, and `first` where it says nothing; `mended` makes it fit what there is.
export function begin(first, mended) {
  begun = { ...DEFAULTS, ...first };
  Object.assign(state, mended(read()));
  addEventListener('hashchange', () => {
    const next = mended(read());
    if (Object.keys(next).some((name) => next[name] !== state[name])) {
      past.push({ ...state });
      future.length = 0;
      settle(next);
    }
  });
}
