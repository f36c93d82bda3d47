// What stands below the stations: what heads split, and what one should know of the numbers.

import { make } from '../../page/static/dom.js';
import { shown } from '../../page/static/tokens.js';
import { filled } from './phrases.js';

export function notes(lesson, { lang, head }) {
  const t = lesson.texts[lang];
  const said = [
    filled(t.agrees, { off: lesson.off }),
    lesson.followed ? null : windowed(lesson, t),
    lesson.apart ? t.apart : null,
    lesson.joined ? filled(t.pieces_page, { words: lesson.joined }) : null,
    lesson.rounded ? t.rounded : null,
    t.why_not,
    lesson.followed ? t.more : t.offline,
    t.keys,
  ];
  return [wrong(lesson, t, lang, head), make("ul", {}, said.filter(Boolean).map((note) => make("li", {}, note)))];
}

// Of a text that is too long to be worked, what is read.
export function windowed(lesson, t) {
  return lesson.whole ? filled(t.windowed, { whole: lesson.whole, n: lesson.read, row: shown(lesson.readings[0].rows[lesson.row]) }) : null;
}

function wrong(lesson, t, lang, head) {
  const cut = lesson.cut[head];
  if (!cut) return null;
  const said = [filled(t.wrong, cut), cut.lost ? filled(t.wrong_lost, cut.lost) : "", filled(t.wrong_alone, cut)];
  return make("section", { class: "card" }, make("h2", {}, t.split_title), make("p", {}, filled(t.split_parallel, lesson.parallel)), make("h3", {}, t.wrong_title), make("p", {}, said.filter(Boolean).join(lang === "en" ? " " : "")));
}
