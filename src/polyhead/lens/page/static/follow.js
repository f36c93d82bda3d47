// A cell followed through its nine stations, over the regions. Their script (lens/learn/static/inside.js) comes when somebody
// first asks for it, and may run because the page's policy knows its hash.

import { get } from './data.js';
import { fill, make } from './dom.js';
import { language, partName, say, told } from './say.js';
import { pin, state } from './state.js';

let code = null, inner = null, back = null;

async function fetched() {
  const [script, style] = await Promise.all(['stations.js', 'stations.css'].map(async (path) => new TextDecoder().decode(await get(path))));
  const element = make('script');
  element.textContent = script;
  document.head.append(element);
  return (host, page) => element.follow(host, style, page);
}

export function createFollow(app, root) {
  const host = make('main', { class: 'follow', hidden: true, tabindex: -1, 'aria-label': say('nine stations') });
  inner?.show(false); // of the page before it was built anew, in another language
  inner = null;
  root.append(host);

  // Why the chosen cell cannot be followed; nothing where it can.
  function why() {
    const scene = app.shown();
    const { lesson, lesson_heads: heads } = scene.calls[state.call];
    if (!lesson || heads && !heads.includes(state.head)) return told(scene.info.no_lesson ?? {});
    const not = state.side === 'd' ? 'follow one' : app.chosen().length > 1 ? 'follow head' : state.query < 0 || state.key < 0 ? 'follow cell' : '', { reach } = scene.calls[state.call];
    if (not || !reach) return say(not);
    const [a, b] = scene.axes(state.call).map(({ spans }, n) => { const at = n ? state.key : state.query; return spans ? spans[at][0] : at; }), [room, first, last] = reach;
    return Math.abs(a - b) < room || Math.min(a, b) < first || Math.max(a, b) >= last ? '' : say('follow near', Math.abs(a - b), room);
  }

  async function show() {
    const on = state.station && !state.by && !why(), was = !host.hidden;
    host.hidden = !on;
    for (const region of root.querySelectorAll('.regions, .narrow')) region.inert = on;
    if (on && !was) host.focus();
    if (!on && was) (back?.isConnected && back.offsetParent ? back : app.parts.middle).focus();
    try {
      if (on) inner ??= (await (code ??= fetched()))(host, { app, get, pin, state, say, language, partName, close });
      inner?.show(!host.hidden);
    } catch (error) {
      code = null;
      fill(host, say('failed', error.message));
    }
  }

  function open() {
    app.pieces();
    const not = why();
    if (not) return app.tell(not);
    back = document.activeElement;
    pin({ station: 1 });
  }

  const close = () => pin({ station: 0 });
  return { why, show, open, close };
}
