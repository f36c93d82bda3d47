// A frame of its own holds the page; what it asks for goes to Python as a message, and comes back as bytes.

export default {
  render({ model, el }) {
    const frame = document.createElement('iframe'), view = crypto.getRandomValues(new Uint32Array(2)).join('.'), waiting = new Map();
    let last = 0;
    frame.setAttribute('sandbox', 'allow-scripts allow-downloads');
    frame.title = model.get('title');
    frame.style.cssText = `display:block;width:100%;height:${Number(model.get('height'))}px;border:0`;

    const ask = (path) => new Promise((done) => {
      const id = `${view}.${++last}`;
      waiting.set(id, done);
      model.send({ id, path });
    });
    const hear = ({ id, found }, [body]) => {
      const done = waiting.get(id);
      waiting.delete(id);
      done?.(found ? body.buffer.slice(body.byteOffset, body.byteOffset + body.byteLength) : null);
    };
    model.on('msg:custom', hear);

    frame.addEventListener('load', () => {
      const { port1, port2 } = new MessageChannel();
      port1.onmessage = async ({ data: { id, path } }) => {
        const body = await ask(String(path));
        port1.postMessage({ id, body }, body ? [body] : []);
      };
      frame.contentWindow.postMessage(null, '*', [port2]);
    });
    ask('').then((page) => {
      frame.srcdoc = new TextDecoder().decode(page);
      el.append(frame);
    });
    return () => model.off('msg:custom', hear);
  },
};
