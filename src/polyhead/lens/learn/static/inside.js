// The stations of a cell that somebody follows from the page of a run: in a shadow, so that neither page's style reaches into
// the other's.

import { fill, make } from '../../page/static/dom.js';
import { plain, shown } from '../../page/static/tokens.js';
import { opened } from './arrays.js';
import { notes, windowed } from './notes.js';
import { filled } from './phrases.js';
import { mount } from './stations.js';

const SLICE = 60000, MOST = 4; // bytes of an answer; lessons that are held, each of all heads or of one
const SAID = {
  back: { en: "Back to the picture", zh: "回到图" },
  working: { en: "Working it out…", zh: "正在演算…" },
  writes: { en: "▸ writes {word}", zh: "▸ 接着写 {word}" },
  none: { en: "This cell cannot be worked: its two words stand too far apart, or the model has changed since.", zh: "这一格无法演算：两个词相隔太远，或者模型已经变了。" },
};
const held = new Map();
let zoom = "picture";

// A lesson, put together from its slices; null where there is none.
async function lessonOf(get, scene, { call, head, query, key }) {
  const cell = scene.calls[call].lesson === "kept" ? [0, 0, 0] : [head, query, key], slices = [];
  for (;;) {
    const slice = await get(scene.path("lesson", call, ...cell, slices.length));
    if (!slice) return null;
    slices.push(slice);
    if (slice.byteLength < SLICE) return opened(JSON.parse(await new Blob(slices).text()));
  }
}

// Follow the page's cell in an element. `page` has what the page is made of: app, get, pin, state, say, language, partName,
// close. show(on) follows it to where it now is.
export function follow(host, style, { app, get, pin, state, say, language, partName, close }) {
  const bar = make("div", { class: "bar" }), room = make("div");
  let ribbon = null, name = "", heads = null, places = null, known = null, turn = 0;
  fill(host, bar, room);

  const at = (place) => (places ? places.indexOf(place) : place);
  const selection = () => ({ station: state.station, head: state.head, row: at(state.query), column: at(state.key), lang: language() });

  function show(on) {
    if (!on) return leave();
    tops();
    const scene = app.shown(), wanted = scene.prefix + state.call;
    if (wanted !== name || heads && !heads[state.head] || at(state.query) < 0 || at(state.key) < 0) return begin(scene, wanted);
    const here = selection();
    if (ribbon && Object.keys(here).some((key) => here[key] !== ribbon.state[key])) ribbon.set(here);
  }

  function leave() {
    turn++;
    ribbon?.destroy();
    ribbon = heads = places = known = null;
    name = "";
  }

  function tops() {
    const call = app.shown().calls[state.call], row = at(state.query), { texts, readings: [read], written } = known ?? { readings: [] }, t = texts?.[language()];
    fill(bar, make("button", { class: "quiet", onclick: close }, "← ", SAID.back[language()], " ", make("kbd", {}, "Esc")),
      make("p", { class: "fine" }, `${partName(call.part)} · ${say("layer head", call.layer, state.head)}`, written?.[row] ? ` · ${shown(read.rows[row])} ${written[row]}` : ""),
      known && [windowed(known, t), state.weighting || state.sinks ? t.plain_weights : ""].filter(Boolean).map((said) => make("p", { class: "fine" }, said)));
  }

  async function begin(scene, wanted) {
    leave();
    const mine = turn, cell = { ...state }, asked = scene.calls[cell.call].lesson === "window" ? `${wanted}/${cell.query}/${cell.key}` : wanted;
    name = wanted;
    fill(room, make("p", { class: "note", role: "status" }, SAID.working[language()]));
    const alone = `${asked} ${cell.head}`, lesson = held.get(asked) ?? held.get(alone) ?? await lessonOf(get, scene, cell).catch((error) => error);
    if (mine !== turn) return;
    if (!lesson?.readings) return fill(room, make("p", { class: "note", role: "status" }, lesson ? say("failed", lesson.message) : SAID.none[language()]));
    heads = lesson.hasHead;
    held.set(heads.every(Boolean) ? asked : alone, lesson);
    if (held.size > MOST) held.delete(held.keys().next().value);
    if (!heads[state.head] && state.head !== cell.head) return begin(scene, wanted); // who went on meanwhile
    ({ places } = lesson);
    const { rows: of } = scene.calls[cell.call], [rows] = scene.axes(cell.call), { length } = lesson.readings[0].rows, put = (n) => places ? places[n] : n;
    if (of === "chosen") await rows.load(put(0), put(length - 1));
    if (mine !== turn || scene !== app.shown() || cell.call !== state.call) return; // in which case show() comes in this frame
    lesson.written = of === "chosen" ? Array.from({ length }, (_, n) => filled(SAID.writes[language()], { word: plain(rows.label(put(n))) })) : null;
    known = lesson;
    tops();
    const sheet = make("style"), inner = make("div"), foot = make("footer", { class: "foot" }), frame = make("div");
    sheet.textContent = style;
    fill(frame.attachShadow({ mode: "open" }), sheet, inner, foot);
    fill(room, frame);
    ribbon = mount(inner, lesson, { lang: language(), at: { ...selection(), zoom } });
    const pinned = ({ station, head, row, column }) => ({ station, head, query: places ? places[row] : row, key: places ? places[column] : column });
    let last = pinned(ribbon.state);
    ribbon.onchange = (now) => {
      zoom = now.zoom;
      fill(foot, notes(lesson, now));
      const next = pinned(now), moved = Object.entries(next).filter(([name, value]) => value !== last[name]);
      last = next;
      pin(Object.fromEntries(moved)); // of the rest, the page may know better until the next frame
    };
    fill(foot, notes(lesson, ribbon.state));
  }

  return { show };
}

document.currentScript.follow = follow;
