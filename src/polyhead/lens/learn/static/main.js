// The one-file page: the lesson is read out of it, and the ribbon is put in its place.

import { decoded } from './arrays.js';
import { el, fill, visible } from './dom.js';
import { mount } from './ribbon.js';

// Every array of a lesson decoded, wherever it lies.
export function opened(value) {
  if (Array.isArray(value)) return value.map(opened);
  if (value === null || typeof value !== "object") return value;
  if (typeof value.data === "string" && Array.isArray(value.shape)) return decoded(value);
  return Object.fromEntries(Object.entries(value).map(([name, inner]) => [name, opened(inner)]));
}

export function start(root, lesson) {
  const themes = ["auto", "light", "dark"];
  let theme = "auto";
  const head = el("header", { class: "masthead" }), foot = el("footer", { class: "foot" }), room = el("div");
  root.replaceChildren(head, room, foot);
  const ribbon = mount(room, lesson, { hash: true });

  function tops() {
    const { lang } = ribbon.state, t = lesson.texts[lang];
    document.documentElement.lang = lang === "zh" ? "zh-CN" : "en";
    document.title = `${t.title_page}: ${lesson.text}`;
    const languages = Object.entries(lesson.texts).map(([name, text]) => el("button", { type: "button", lang: name === "zh" ? "zh-CN" : "en", "data-lang": name, "aria-pressed": String(name === lang), onclick: () => { ribbon.set({ lang: name }); tops(); head.querySelector(`[data-lang="${name}"]`).focus(); } }, text.language));
    const select = el("select", { "aria-label": t.theme, onchange: (event) => { theme = event.target.value; document.documentElement.dataset.theme = theme; ribbon.repaint(); } }, themes.map((name) => el("option", { value: name, selected: name === theme }, `${t.theme}: ${t[`theme_${name}`]}`)));
    const line = fill(t.model_line, { name: lesson.name, part: t[`part_${lesson.part}`], layer: lesson.layer, last: lesson.layers - 1, head: ribbon.state.head, end: lesson.heads - 1 });
    head.replaceChildren(el("div", { class: "title" }, el("h1", {}, t.title_page), el("p", { class: "text" }, lesson.text), el("p", { class: "says" }, said(t)), el("p", { class: "small", id: "model-line" }, line)), el("div", { class: "tools" }, el("div", { class: "languages", role: "group" }, languages), select));
    const notes = [fill(t.agrees, { off: lesson.off }),
      lesson.whole ? fill(t.windowed, { whole: lesson.whole, n: lesson.read, row: visible(lesson.readings[0].rows[lesson.row]) }) : null, lesson.apart ? t.apart : null, lesson.joined ? fill(t.pieces_page, { words: lesson.joined }) : null, lesson.rounded ? t.rounded : null, t.why_not, t.offline, t.keys];
    foot.replaceChildren(wrong(t), el("ul", {}, notes.filter(Boolean).map((note) => el("li", {}, note))));
  }

  function said(t) {
    const text = lesson.readings[0].says;
    return !text ? "" : lesson.next ? fill(t.next, { words: text }) : fill(t.says, { text });
  }

  function wrong(t) {
    const cut = lesson.cut[ribbon.state.head];
    if (!cut) return "";
    const said = [fill(t.wrong, cut), cut.lost ? fill(t.wrong_lost, cut.lost) : "", fill(t.wrong_alone, cut)];
    return el("section", { class: "card" }, el("h2", {}, t.split_title), el("p", {}, fill(t.split_parallel, lesson.parallel)), el("h3", {}, t.wrong_title), el("p", {}, said.filter(Boolean).join(ribbon.state.lang === "en" ? " " : "")));
  }

  let last = "";
  ribbon.onchange = ({ head: h, lang }) => { if (last !== `${h}${lang}`) { last = `${h}${lang}`; const focused = document.activeElement; tops(); if (focused?.isConnected) focused.focus(); } };
  tops();
  return ribbon;
}

const data = document.getElementById("lesson");
if (data) globalThis.lesson = start(document.getElementById("room"), opened(JSON.parse(data.textContent)));
