// A frame of its own holds the page; what it asks for goes to Python as a message, and comes back as bytes.

const WAIT = 4000; // milliseconds without an answer, after which a person is told
const WAITING = navigator.language.startsWith('zh')
  ? '正在等 Python：它可能在运行别的单元格；若已重启，请重新运行这个单元格。'
  : 'Waiting for Python: it may be running another cell. If it was restarted, run this cell again.';

export default {
  render({ model, el }) {
    const frame = document.createElement('iframe'), note = document.createElement('p'), hidden = document.createElement('style');
    const view = crypto.getRandomValues(new Uint32Array(2)).join('.'), waiting = new Map();
    let last = 0, page = '', chosen = '', around = '', late = 0;
    el.style.position = 'relative';
    frame.setAttribute('sandbox', 'allow-scripts allow-downloads');
    frame.title = model.get('title');
    frame.style.cssText = `display:block;box-sizing:border-box;width:100%;height:${Number(model.get('height'))}px;border:1px solid rgb(128 128 128 / .35);border-radius:8px`;
    note.setAttribute('role', 'status');
    note.hidden = true;
    note.style.cssText = 'position:absolute;left:50%;bottom:16px;transform:translateX(-50%);margin:0;padding:8px 14px;border-radius:8px;background:#171a21;color:#fff;font:13px/1.4 system-ui,sans-serif';
    note.textContent = WAITING;
    hidden.textContent = `.polyhead-${model.get('mark').replace(/\W/g, '')}{display:none!important}`; // the picture that stands for the page

    const ask = (path) => new Promise((done) => {
      const id = `${view}.${++last}`;
      waiting.set(id, done);
      late ||= setTimeout(() => { note.hidden = false; }, WAIT);
      model.send({ id, path });
    });
    const hear = ({ id, found, failed }, buffers) => {
      const done = waiting.get(id), body = buffers?.[0];
      if (!waiting.delete(id)) return;
      clearTimeout(late);
      late = waiting.size ? setTimeout(() => { note.hidden = false; }, WAIT) : 0;
      note.hidden = true;
      done({ failed, body: found ? body.buffer.slice(body.byteOffset, body.byteOffset + body.byteLength) : null });
    };
    model.on('msg:custom', hear);

    // The page begins in the theme round it, and where it was left: a frame that is moved is loaded anew.
    const open = () => {
      around = theme(el);
      frame.srcdoc = page;
    };
    const left = () => new URLSearchParams([...(around ? [['theme', around]] : []), ...new URLSearchParams(chosen)]).toString();
    const keep = (selection) => {
      const kept = new URLSearchParams(selection.replace(/^#/, ''));
      if (kept.get('theme') === around) kept.delete('theme');
      chosen = kept.toString();
    };
    const watcher = new MutationObserver(() => setTimeout(() => { if (page && theme(el) !== around) open(); }, 300));
    for (const one of [document.documentElement, document.body]) watcher.observe(one, { attributes: true });

    frame.addEventListener('load', () => {
      const { port1, port2 } = new MessageChannel();
      port1.onmessage = async ({ data: { id, path, selection } }) => {
        if (selection !== undefined) return keep(String(selection));
        const { failed, body } = await ask(String(path));
        port1.postMessage({ id, failed, body }, body ? [body] : []);
      };
      frame.contentWindow.postMessage(left(), '*', [port2]);
    });
    ask('').then(({ body, failed }) => {
      if (!body) return void (el.textContent = failed);
      page = new TextDecoder().decode(body);
      el.append(frame, note);
      document.head.append(hidden);
      open();
    });
    return () => {
      model.off('msg:custom', hear);
      watcher.disconnect();
      clearTimeout(late);
      hidden.remove();
    };
  },
};

// "light" or "dark", as what stands behind an element is; nothing where nobody has painted there.
function theme(element) {
  for (let one = element; one; one = one.parentElement) {
    const [r, g, b, opaque = 1] = getComputedStyle(one).backgroundColor.match(/[\d.]+/g)?.map(Number) ?? [0, 0, 0, 0];
    if (opaque > 0.5) return 0.299 * r + 0.587 * g + 0.114 * b < 128 ? 'dark' : 'light';
  }
  return '';
}
