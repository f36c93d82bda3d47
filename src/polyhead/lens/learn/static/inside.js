// The stations inside another page: in a shadow, so that neither page's style reaches into the other's.

import { fill, make } from '../../page/static/dom.js';
import { opened } from './arrays.js';
import { notes } from './notes.js';
import { mount } from './stations.js';

// Open a lesson in an element: { ribbon, close }. `heard` is told where one goes in it.
export function open(host, lesson, style, { lang, at, heard }) {
  const shadow = host.shadowRoot ?? host.attachShadow({ mode: 'open' });
  const sheet = make('style'), room = make('div'), foot = make('footer', { class: 'foot' }), held = opened(lesson);
  sheet.textContent = style;
  fill(shadow, sheet, room, foot);
  const ribbon = mount(room, held, { lang, at });
  const below = () => fill(foot, notes(held, ribbon.state));
  ribbon.onchange = (state) => {
    below();
    heard(state);
  };
  below();
  return { ribbon, close: () => { ribbon.destroy(); fill(shadow); } };
}

document.currentScript.open = open;
