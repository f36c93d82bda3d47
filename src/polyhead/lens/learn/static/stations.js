// The ribbon: a sentence, nine stations with three zooms each, what can be broken, and a question at every station.
//
// mount(root, lesson, { lang, hash, at }) puts it into an element, of a page or of a shadow; `lesson` is what
// lens/learn/page.py writes, its arrays opened. It answers with { state, set, view, destroy }:
// set({ station, zoom, head, row, column, lang, ... }) moves it from outside, onchange hears where it moved.

import { css, rgb } from '../../page/static/colour.js';
import { calm, fill, make, repaint } from '../../page/static/dom.js';
import { shown } from '../../page/static/tokens.js';
import { WHOLE, part, spread, work } from './attention.js';
import { row } from './arrays.js';
import { formula } from './formula.js';
import { grid, pinned, sum } from './numbers.js';
import { filled, number, rounded } from './phrases.js';
import { picture, sign } from './pictures.js';

const ZOOMS = ["picture", "numbers", "sum"];

export function mount(root, lesson, { lang = lesson.lang, hash = false, at = {} } = {}) {
  const first = { station: 1, at: 1, zoom: "picture", head: lesson.head, row: lesson.row, column: lesson.column, lang, scale: true, mask: null, positions: true, off: false, temperature: 1, swap: "", open: false };
  const state = { ...first, ...(hash ? fromHash() : {}), ...at, ...(at.station ? { at: at.station } : {}) };
  const kept = new Map();
  let moving = 0;
  known(state.head);

  // A head whose numbers were left out has no stations.
  function known(head) {
    if (!lesson.hasHead[head]) throw new RangeError(`this lesson has no head ${head}`);
  }

  // ------------------------------------------------------------------------------------------------ what is worked

  const texts = () => lesson.texts[state.lang];
  const broken = () => !state.scale || state.mask !== null || !state.positions || state.off || state.temperature !== 1 || state.swap !== "";
  const breaks = () => ({ scale: state.scale, mask: state.mask, temperature: state.temperature, headOff: state.off ? state.head : null });
  const readingOf = () => lesson.readings.find((r) => (state.swap ? r.kind === "swap" && r.name === state.swap : r.kind === (state.positions ? "plain" : "positions")));

  function viewOf(changed) {
    const reading = changed ? readingOf() : lesson.readings[0];
    const how = changed ? breaks() : WHOLE;
    const key = JSON.stringify([lesson.readings.indexOf(reading), how.scale, how.mask, how.temperature]);
    if (!kept.has(key)) {
      if (kept.size > 40) kept.clear();
      kept.set(key, lesson.hasHead.map((has, h) => (has ? work(lesson, reading, how, h) : null)));
    }
    const every = kept.get(key), order = reading.order;
    const here = { ...state, row: order ? order.rows[state.row] : state.row, column: order ? order.columns[state.column] : state.column };
    const [rows, columns] = [reading.rows.map(shown), reading.columns.map(shown)];
    const t = texts(), off = (n) => how.headOff === n;
    const zero = new Float64Array(lesson.width);
    const all = every.map((stages) => stages?.found ?? rows.map(() => zero));
    const output = (i) => {
      const total = reading.rest ? Float64Array.from(row(reading.rest, i)) : Float64Array.from(lesson.outFeatures, (_, f) => (lesson.outBias ? lesson.outBias.numbers[f] : 0));
      all.forEach((found, n) => { if (!off(n)) part(lesson, found[i], n).forEach((y, f) => (total[f] += y)); });
      return total;
    };
    const stream = (i) => { const x = row(reading.stream ?? reading.x, i); return Float64Array.from(lesson.outFeatures, (f) => x[f]); };
    const feature = (i) => {
      const mine = part(lesson, lesson.readings[0] === reading || !off(state.head) ? all[state.head][i] : zero, state.head);
      return mine.reduce((best, y, f) => (Math.abs(y) > Math.abs(mine[best]) ? f : best), 0);
    };
    return { lesson, reading, stages: every[state.head], every, all, off, output, stream, feature, state: here, t, rows, columns, changed,
      half: broken(), words: { row: rows[here.row], col: columns[here.column], head: state.head },
      pin: (i, j, focus) => set({ row: order ? order.rows.indexOf(i) : i, column: order ? order.columns.indexOf(j) : j }, focus) };
  }

  // ------------------------------------------------------------------------------------------------ what is said

  function looks(view, i) {
    const { t, stages, rows, columns } = view;
    const own = !lesson.cross;
    const order = columns.map((_, j) => j).sort((a, b) => stages.weights[i][b] - stages.weights[i][a] || a - b);
    const [a, b] = order, w = stages.weights[i];
    let said = filled(own && a === i ? t.looks_self : t.looks, { row: rows[i], col: columns[a], percent: rounded(w[a]) });
    if (b !== undefined && w[b] >= 0.1) said += filled(own && b === i ? t.then_self : t.then, { col: columns[b], percent: rounded(w[b]) });
    return said + t.stop;
  }

  function plain(view, station) {
    const { t, stages } = view;
    const s = t.stations[station - 1];
    const shown = stages.shown.flat(), hidden = shown.filter((x) => x === -Infinity).length;
    const causal = stages.shown.every((r, i) => r.every((x, j) => (x === -Infinity) === (j > i)));
    let key = "plain";
    if (station === 1) key = lesson.placesInside ? "plain_inside" : lesson.layer ? "plain_later" : "plain";
    if (station === 4 && !lesson.divides) key = lesson.scale === 1 ? "plain_none" : "plain_other";
    if (station === 5 && hidden) key = causal ? "plain_causal" : "plain_some";
    if (station === 9 && lesson.post) key = "plain_post";
    const space = state.lang === "en" ? " " : "";
    const more = station !== 5 ? "" : view.reading.bias ? space + s.plain_bias : hidden ? "" : space + t.unchanged;
    return filled(s[key] + more, told(view));
  }

  function told(view) {
    const { stages, state: here } = view;
    const hidden = stages.shown.flat().filter((x) => x === -Infinity).length;
    return { T: view.rows.length, S: view.columns.length, D: view.reading.x.shape[1], K: lesson.width, H: lesson.heads, HK: lesson.heads * lesson.width, root: number(Math.sqrt(lesson.width)), scale: number(lesson.scale), ...view.words, head: state.head, hidden, pairs: stages.shown.flat().length, share: lesson.hasHead.every(Boolean) ? rounded(shareOf(view, here.row)) : "?" };
  }

  function shareOf(view, i) {
    const lengths = view.all.map((found, n) => (view.off(n) ? 0 : Math.sqrt(part(lesson, found[i], n).reduce((a, y) => a + y * y, 0))));
    return lengths[state.head] / (lengths.reduce((a, b) => a + b, 0) || 1);
  }

  function says() {
    const many = Number(!state.scale) + Number(state.mask !== null) + Number(state.off) + Number(state.temperature !== 1);
    if (many === 0) return readingOf().says;
    if (many > 1 || state.swap || !state.positions || state.temperature !== 1) return null;
    return lesson.saysBroken[!state.scale ? "scale" : state.off ? `head:${state.head}` : "mask"] ?? null;
  }

  // ------------------------------------------------------------------------------------------------ the page's parts

  const parts = { sentence: make("section", { class: "card sentence" }), heads: make("section", { class: "card heads" }), ribbon: make("nav", { class: "card ribbon" }), station: make("section", { class: "card station", "aria-live": "off" }), breaks: make("aside", { class: "card breaks" }), live: make("p", { class: "hidden-text", role: "status", "aria-live": "polite" }) };
  const frame = make("div", { class: lesson.followed ? "learn followed" : "learn" }, parts.sentence, parts.ribbon, make("div", { class: "columns" }, parts.station, make("div", { class: "side" }, parts.heads, parts.breaks)), parts.live);
  root.replaceChildren(frame);

  function drawSentence(view, after) {
    const t = texts();
    const chips = (labels, pinnedAt, kind, press) => make("div", { class: `chips ${kind}` }, labels.map((word, n) =>
      make("button", { type: "button", class: "chip", "aria-pressed": String(n === pinnedAt), "data-at": n, onclick: () => press(n) }, word)));
    const one = (v, title) => {
      const lines = make("svg", { class: "lines", "aria-hidden": "true" });
      const top = chips(v.rows, v.state.row, "top", (n) => v.pin(n, v.state.column, `.pairs.${v.changed ? "new" : "old"} .top [data-at="${n}"]`));
      const bottom = chips(v.columns, v.state.column, "bottom", (n) => v.pin(v.state.row, n, `.pairs.${v.changed ? "new" : "old"} .bottom [data-at="${n}"]`));
      lesson.written?.forEach((said, n) => top.children[n].append(make("small", {}, said)));
      bottom.querySelectorAll(".chip").forEach((chip, n) => chip.append(make("small", {}, rounded(v.stages.weights[v.state.row][n]))));
      const pairs = make("div", { class: `pairs ${v.changed ? "new" : "old"}` }, make("div", { class: "inner" }, make("p", { class: "axis" }, t.who_looks), top, lines, bottom, make("p", { class: "axis" }, t.looked_at)));
      requestAnimationFrame(() => {
        bring(pairs, top, bottom, v.state);
        const said = parts.sentence.querySelector('[data-link][aria-pressed="true"]');
        if (said) said.closest("ol").scrollTop = said.offsetTop - said.closest("ol").offsetTop - 80;
        link(pairs, lines, v);
      });
      return make("div", { class: "half" }, title ? make("h2", { class: "quiet" }, title) : null, pairs, after ? make("p", { class: "said" }, looks(v, v.state.row)) : null);
    };
    const links = (v) => make("ol", { class: "links" }, v.rows.map((word, n) => (lesson.signs.includes(lesson.readings[0].rows[n]) && v.rows.length > lesson.signs.length ? null
      : make("li", {}, make("button", { type: "button", class: "linkish", "aria-pressed": String(n === v.state.row), "data-link": n, onclick: () => v.pin(n, strongest(v, n), `[data-link="${n}"]`) }, looks(v, n))))));
    parts.sentence.classList.toggle("tall", view.rows.length > 9 || view.columns.length > 9);
    fill(parts.sentence, after
      ? make("div", { class: "halves" }, one(view, t.as_it_is), one(after, t.as_broken))
      : lesson.followed ? one(view, "") : make("div", { class: "halves whole" }, one(view, ""), make("div", { class: "half" }, make("h2", {}, t.who), links(view))),
      make("p", { class: "small" }, [t.choose_word, lesson.signs.length ? filled(t.signs, { signs: lesson.signs.map(shown).join(", ") }) : ""].join(" ")));
  }

  // Scroll to both of the cell; two that stand too far apart for that are slid over each other, row by row.
  function bring(pairs, top, bottom, { row, column }) {
    const both = [top.children[row], bottom.children[column]], [a, b] = both.map((chip) => chip.offsetLeft), room = pairs.clientWidth - 6;
    const end = Math.max(...both.map((chip) => chip.offsetLeft + chip.offsetWidth));
    if (end - Math.min(a, b) > room) (a > b ? bottom : top).style.marginLeft = `${Math.abs(a - b)}px`;
    const first = Math.min(...both.map((chip) => chip.offsetLeft)), last = Math.max(...both.map((chip) => chip.offsetLeft + chip.offsetWidth));
    pairs.scrollLeft = (first + last - pairs.clientWidth) / 2;
  }

  const strongest = (v, i) => v.stages.weights[i].reduce((best, w, j, all) => (w > all[best] ? j : best), 0);

  function link(pairs, lines, view) {
    const inner = pairs.firstChild, box = inner.getBoundingClientRect();
    const middle = (chip, side) => { const r = chip.getBoundingClientRect(); return [r.left + r.width / 2 - box.left, (side ? r.top : r.bottom) - lines.getBoundingClientRect().top]; };
    const [x, y] = middle(pairs.querySelector(`.top [data-at="${view.state.row}"]`), 0);
    lines.replaceChildren(...view.stages.weights[view.state.row].map((w, j) => {
      const [a, b] = middle(pairs.querySelector(`.bottom [data-at="${j}"]`), 1);
      const path = make("path", { d: `M${x} ${y}C${x} ${(y + b) / 2} ${a} ${(y + b) / 2} ${a} ${b}`, class: j === view.state.column ? "pinned" : "" });
      path.style.strokeWidth = `${0.5 + 9 * w}px`;
      path.style.opacity = String(0.12 + 0.88 * Math.sqrt(w));
      return path;
    }));
  }

  function drawRibbon() {
    const t = texts();
    const go = (n) => move(n);
    parts.ribbon.setAttribute("aria-label", t.nine_short);
    const slider = make("input", { type: "range", min: 1, max: 9, step: calm() ? 1 : 0.02, value: state.at, "aria-label": t.nine_short, "aria-valuetext": t.stations[state.station - 1].title,
      oninput: (event) => { cancelAnimationFrame(moving); set({ at: Number(event.target.value), station: Math.round(Number(event.target.value)) }, null, true); },
      onchange: () => move(state.station) });
    fill(parts.ribbon, make("ol", {}, t.stations.map((station, n) => make("li", {}, make("button", { type: "button", "aria-current": state.station === n + 1 ? "step" : null, "data-station": n + 1, onclick: () => go(n + 1) },
      sign(n), make("span", { class: "name" }, station.short), make("span", { class: "hidden-text" }, `${n + 1}: ${station.title}`))))), slider);
  }

  function markRibbon() {
    parts.ribbon.querySelectorAll("[data-station]").forEach((button) => button.toggleAttribute("aria-current", false));
    parts.ribbon.querySelector(`[data-station="${state.station}"]`).setAttribute("aria-current", "step");
    parts.ribbon.querySelector("input").value = state.at;
  }

  function drawStation(view, after) {
    const t = texts(), n = state.station, station = t.stations[n - 1];
    const zoom = { picture: (v) => picture(v, state.at), numbers: (v) => grid(v, n), sum: (v) => sum(v, n) }[state.zoom];
    const tabs = make("div", { class: "zooms", role: "group", "aria-label": t.zoom_picture }, ZOOMS.map((name, z) =>
      make("button", { type: "button", "aria-pressed": String(state.zoom === name), "data-zoom": name, onclick: () => set({ zoom: name }, `[data-zoom="${name}"]`) }, t[`zoom_${name}`], make("kbd", {}, String(z + 1)))));
    const panel = (v, title) => make("div", { class: v.changed ? "panel new" : "panel old", tabindex: 0, role: "region", "aria-label": title || station.title }, title ? make("h3", {}, title) : null, zoom(v));
    const body = make("div", { class: after ? "panels two" : "panels" }, panel(view, after ? t.as_it_is : ""), after ? panel(after, t.as_broken) : null);
    requestAnimationFrame(() => {
      const box = parts.station.querySelector(".formula"), lit = box?.querySelector(".lit")?.getBoundingClientRect();
      if (lit) box.scrollLeft += lit.left - box.getBoundingClientRect().left - (box.clientWidth - lit.width) / 2;
    });
    if (n < 3 || n > 6 || state.zoom !== "picture") body.style.opacity = String(1 - 1.4 * Math.abs(state.at - n));
    const back = make("button", { type: "button", class: "step", disabled: n === 1, onclick: () => move(n - 1) }, "←"), on = make("button", { type: "button", class: "step", disabled: n === 9, onclick: () => move(n + 1) }, "→");
    back.setAttribute("aria-label", t.back);
    on.setAttribute("aria-label", t.on);
    const now = after ?? view;
    fill(parts.station, 
      make("header", {}, make("span", { class: "count" }, `${n} / 9`), make("h2", {}, station.title), lesson.followed ? tabs : null, back, on),
      make("p", { class: "plain" }, plain(now, n)),
      make("div", { class: "formula", tabindex: 0, role: "region", "aria-label": t.formula }, formula(n, { scaled: lesson.scale !== 1, masked: true })),
      lesson.followed ? null : tabs, body,
      make("div", { class: "question" }, make("p", {}, make("strong", {}, `${t.question}: `), filled(station.question, told(view))),
        make("details", { open: state.open, ontoggle: (event) => { state.open = event.target.open; } }, make("summary", {}, t.show_answer), make("p", {}, filled(station.answer, told(view))))));
  }

  function drawHeads(view) {
    const t = texts();
    const maps = view.every.map((stages, h) => {
      if (!stages) return null;
      const [T, S] = [stages.weights.length, stages.weights[0].length];
      const canvas = make("canvas", { width: S, height: T, "aria-hidden": "true" });
      const pen = canvas.getContext("2d");
      stages.weights.forEach((r, i) => r.forEach((w, j) => { pen.fillStyle = css(rgb(w, "linear")); pen.fillRect(j, i, 1, 1); }));
      return make("button", { type: "button", class: "map", "aria-pressed": String(h === state.head), "data-head": h, "aria-label": filled(t.head_n, { head: h }), onclick: () => set({ head: h, open: false }, `[data-head="${h}"]`) }, canvas, make("span", {}, String(h)));
    });
    fill(parts.heads, make("h2", {}, t.choose_head), make("p", { class: "small" }, t.head_grid), make("div", { class: "maps" }, maps), lesson.hasHead.every(Boolean) ? null : make("p", { class: "small" }, t.one_head));
  }

  function drawBreaks(view, after) {
    const t = texts();
    const check = (id, label, on, change, disabled = false) => make("label", { class: "switch" }, make("input", { type: "checkbox", "data-break": id, checked: on, disabled, onchange: (event) => change(event.target.checked) }), make("span", {}, label));
    const again = (id) => `[data-break="${id}"]`;
    const causal = lesson.maskKind !== "none";
    const bare = lesson.readings.some((r) => r.kind === "positions"), swaps = lesson.readings.filter((r) => r.kind === "swap");
    const slider = make("input", { type: "range", min: -2.3, max: 1.7, step: 0.1, value: Math.log(state.temperature), "data-break": "temperature", "aria-label": t.switch_temperature, "aria-valuetext": state.temperature.toFixed(2),
      oninput: (event) => { const e = Number(event.target.value); set({ temperature: Math.abs(e) < 0.06 ? 1 : Number(Math.exp(e).toFixed(2)) }, again("temperature")); } });
    const swap = make("select", { "data-break": "swap", onchange: (event) => set({ swap: event.target.value, positions: true }, again("swap")) }, make("option", { value: "" }, t.swap_none), swaps.map((r) => make("option", { value: r.name, selected: state.swap === r.name }, shown(r.one) + " ↔ " + shown(r.other))));
    const end = after ? says() : null;
    fill(parts.breaks, 
      make("h2", {}, t.break_it),
      lesson.scale !== 1 ? check("scale", t.switch_scale, !state.scale, (on) => set({ scale: !on }, again("scale"))) : null,
      lesson.cross ? null : check("mask", causal ? t.switch_mask_off : t.switch_mask_on, state.mask !== null, (on) => set({ mask: on ? !causal : null }, again("mask"))),
      bare ? check("positions", t.switch_positions, !state.positions, (on) => set({ positions: !on, swap: "" }, again("positions"))) : null,
      check("head", t.switch_head, state.off, (on) => set({ off: on }, again("head"))),
      make("label", { class: "switch wide" }, make("span", {}, `${t.switch_temperature}: ${state.temperature.toFixed(2)}`), slider),
      swaps.length ? make("label", { class: "switch wide" }, make("span", {}, t.switch_swap), swap) : null,
      lesson.swapsLeft && swaps.length ? make("p", { class: "small" }, t.swaps_left) : null,
      after ? make("div", { class: "effect" },
        after.reading !== view.reading ? make("p", { class: "small" }, t.re_read) : null,
        make("p", {}, filled(t.broken_spread, { before: mean(view).toFixed(1), after: mean(after).toFixed(1) })),
        make("p", {}, filled(t.broken_output, { row: view.words.row, percent: rounded(change(view, after)) })),
        lesson.readings[0].says && end ? make("div", { class: "ends" }, make("p", {}, make("b", {}, `${t.before}: `), lesson.readings[0].says), make("p", {}, make("b", {}, `${t.after}: `), end)) : null,
        make("button", { type: "button", class: "reset", onclick: () => set({ scale: true, mask: null, positions: true, off: false, temperature: 1, swap: "" }, again("head")) }, t.reset)) : null);
  }

  const mean = (view) => view.stages.weights.reduce((a, w) => a + spread(w), 0) / view.stages.weights.length;
  function change(view, after) {
    const [old, now] = [view.output(view.state.row), after.output(after.state.row)];
    const norm = (x) => Math.sqrt(x.reduce((a, y) => a + y * y, 0));
    return norm(old.map((y, f) => now[f] - y)) / (norm(old) || 1);
  }

  // ------------------------------------------------------------------------------------------------ moving about

  function draw(only = false) {
    const view = viewOf(false), after = broken() ? viewOf(true) : null;
    if (!only) { drawSentence(view, after); drawHeads(after ?? view); drawBreaks(view, after); drawRibbon(); }
    else markRibbon();
    drawStation(view, after);
    frame.lang = state.lang === "zh" ? "zh-CN" : "en";
  }

  function set(wanted, focus = null, only = false) {
    known(wanted.head ?? state.head);
    Object.assign(state, wanted);
    if (wanted.station && wanted.at === undefined) state.at = wanted.station;
    draw(only);
    if (focus) frame.querySelector(focus)?.focus();
    if (hash) history.replaceState(null, "", toHash());
    const view = viewOf(broken());
    if (!only) parts.live.textContent = `${texts().stations[state.station - 1].title}. ${looks(view, view.state.row)}`;
    api.onchange?.(state);
  }

  function move(to) {
    cancelAnimationFrame(moving);
    to = Math.min(Math.max(to, 1), 9);
    const from = state.at, began = performance.now(), focus = root.getRootNode().activeElement?.dataset?.station ? `[data-station="${to}"]` : null;
    if (state.station !== to) state.open = false;
    if (calm() || from === to) return set({ station: to, at: to }, focus);
    const tick = (now) => {
      const t = Math.min((now - began) / 450, 1), at = from + (to - from) * (t < 0.5 ? 2 * t * t : 1 - 2 * (1 - t) ** 2);
      if (t === 1) return set({ station: to, at: to }, focus);
      set({ at, station: Math.round(at) }, null, true);
      moving = requestAnimationFrame(tick);
    };
    moving = requestAnimationFrame(tick);
  }

  function pressed(event) {
    if (event.ctrlKey || event.metaKey || event.altKey || /^(INPUT|SELECT|TEXTAREA)$/.test(event.composedPath()[0].tagName)) return;
    const zoom = ZOOMS[Number(event.key) - 1], heads = lesson.hasHead.flatMap((has, h) => (has ? [h] : []));
    const next = (by) => heads[(heads.indexOf(state.head) + by + heads.length) % heads.length];
    if (event.key === "ArrowRight") move(state.station + 1);
    else if (event.key === "ArrowLeft") move(state.station - 1);
    else if (event.key === "[") set({ head: next(-1) });
    else if (event.key === "]") set({ head: next(1) });
    else if (zoom) set({ zoom });
    else return;
    event.preventDefault();
  }

  function toHash() {
    const { station, zoom, head, row: r, column, lang: l } = state;
    return `#station=${station}&zoom=${zoom}&head=${head}&row=${r}&column=${column}&lang=${l}`;
  }

  // Only whole numbers and names that there are come out of an address.
  function fromHash() {
    const given = new URLSearchParams(location.hash.slice(1)), found = {};
    const whole = (name, low, high) => { const n = Number(given.get(name) ?? NaN); if (Number.isInteger(n) && n >= low && n <= high) found[name] = n; };
    whole("station", 1, 9);
    whole("head", 0, lesson.heads - 1);
    whole("row", 0, lesson.readings[0].rows.length - 1);
    whole("column", 0, lesson.readings[0].columns.length - 1);
    if (found.head !== undefined && !lesson.hasHead[found.head]) delete found.head;
    if (ZOOMS.includes(given.get("zoom"))) found.zoom = given.get("zoom");
    if (["en", "zh"].includes(given.get("lang"))) found.lang = given.get("lang");
    return found.station ? { ...found, at: found.station } : found;
  }

  document.addEventListener("keydown", pressed);
  const resized = new ResizeObserver(() => frame.querySelectorAll(".pairs").forEach((pairs) => link(pairs, pairs.querySelector(".lines"), viewOf(pairs.classList.contains("new")))));
  resized.observe(frame);
  const themes = matchMedia("(prefers-color-scheme: dark)");
  const again = () => { repaint(); draw(); };
  themes.addEventListener("change", again);
  const api = { state, set, repaint: again, view: (changed = broken()) => viewOf(changed), pinned: (station = state.station) => pinned(viewOf(broken()), station), onchange: null,
    destroy: () => { document.removeEventListener("keydown", pressed); themes.removeEventListener("change", again); resized.disconnect(); root.replaceChildren(); } };
  draw();
  return api;
}

