// The one-file page: the lesson is read out of it, and the stations are put in its place.

import { unpacked } from '../../page/static/bytes.js';
import { fill, make } from '../../page/static/dom.js';
import { opened } from './arrays.js';
import { notes } from './notes.js';
import { filled } from './phrases.js';
import { mount } from './stations.js';

export function start(root, lesson) {
  const themes = ["auto", "light", "dark"];
  const head = make("header", { class: "masthead" }), foot = make("footer", { class: "foot" }), room = make("main");
  fill(root, head, room, foot);
  root.classList.add("lesson");
  const ribbon = mount(room, lesson, { hash: true });

  function tops() {
    const { lang } = ribbon.state, t = lesson.texts[lang], { theme = "auto" } = document.documentElement.dataset;
    document.documentElement.lang = lang === "zh" ? "zh-CN" : "en";
    document.title = `${t.title_page}: ${lesson.text}`;
    const languages = Object.entries(lesson.texts).map(([name, text]) => make("button", { type: "button", lang: name === "zh" ? "zh-CN" : "en", "data-lang": name, "aria-pressed": String(name === lang), onclick: () => { ribbon.set({ lang: name }); tops(); head.querySelector(`[data-lang="${name}"]`).focus(); } }, text.language));
    const select = make("select", { "aria-label": t.theme, onchange: (event) => themed(event.target.value) }, themes.map((name) => make("option", { value: name, selected: name === theme }, `${t.theme}: ${t[`theme_${name}`]}`)));
    const line = filled(t.model_line, { name: lesson.name, part: t[`part_${lesson.part}`], layer: lesson.layer, last: lesson.layers - 1, head: ribbon.state.head, end: lesson.heads - 1 });
    fill(head, make("div", { class: "title" }, make("h1", {}, t.title_page), make("p", { class: "text" }, lesson.text), make("p", { class: "says" }, said(t)), make("p", { class: "small", id: "model-line" }, line)), make("div", { class: "tools" }, make("div", { class: "languages", role: "group", "aria-label": t.language }, languages), select));
    fill(foot, notes(lesson, ribbon.state));
  }

  function themed(theme) {
    if (theme === "auto") delete document.documentElement.dataset.theme;
    else document.documentElement.dataset.theme = theme;
    ribbon.repaint();
  }

  function said(t) {
    const text = lesson.readings[0].says;
    return !text ? "" : lesson.next ? filled(t.next, { words: text }) : filled(t.says, { text });
  }

  let last = "";
  ribbon.onchange = ({ head: h, lang }) => { if (last !== `${h}${lang}`) { last = `${h}${lang}`; const focused = document.activeElement; tops(); if (focused?.isConnected) focused.focus(); } };
  tops();
  return ribbon;
}

const held = JSON.parse(document.getElementById("answers").textContent);
unpacked(held["lesson.json"]).then((bytes) => { globalThis.lesson = start(document.getElementById("page"), opened(JSON.parse(new TextDecoder().decode(bytes)))); });
