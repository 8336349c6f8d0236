// Live updates: once a second the server sends the elements that changed, by id, or only the table cells of them
// that changed, by number. Without this script the page is the same and is renewed by loading it again.
"use strict";
(() => {
  const box = document.getElementById("live");
  if (!box || !box.dataset.events || !window.EventSource) return;
  const word = document.getElementById("live-state");
  const time = document.getElementById("live-at");

  const SILENCE_MS = 5000; // Longer than the server ever keeps silent.
  const RETRY_MIN_MS = 1000;
  const RETRY_MAX_MS = 30000;

  let source = null;
  let heard = 0; // When the last event came, on the clock that does not step.
  let retry = RETRY_MIN_MS;
  let timer = 0;

  const show = (state, text) => {
    // Only changes, so that screen readers do not read it every second.
    if (box.dataset.state !== state) box.dataset.state = state;
    if (word.textContent !== text) word.textContent = text;
  };
  const lost = (why) => {
    show("lost", "Not live since " + time.textContent + (why ? ": " + why : ""));
  };

  // Makes `old` equal to `fresh` and keeps the elements that are alike: focus, selection and scrolling stay.
  const renew = (old, fresh) => {
    if (old.nodeType !== fresh.nodeType || old.nodeName !== fresh.nodeName) {
      old.replaceWith(fresh);
      return;
    }
    if (old.nodeType !== Node.ELEMENT_NODE) {
      if (old.data !== fresh.data) old.data = fresh.data;
      return;
    }
    for (const { name, value } of fresh.attributes) {
      if (old.getAttribute(name) !== value) old.setAttribute(name, value);
    }
    if (old.attributes.length !== fresh.attributes.length) {
      for (const { name } of [...old.attributes]) {
        // Whether it is open is the reader's choice.
        if (!fresh.hasAttribute(name) && name !== "open") old.removeAttribute(name);
      }
    }
    renewInside(old, fresh);
  };
  const renewInside = (old, fresh) => {
    let was = old.firstChild;
    let is = fresh.firstChild;
    while (was && is) {
      const [nextWas, nextIs] = [was.nextSibling, is.nextSibling];
      renew(was, is);
      [was, is] = [nextWas, nextIs];
    }
    while (was) {
      const next = was.nextSibling;
      was.remove();
      was = next;
    }
    while (is) {
      const next = is.nextSibling;
      old.append(is);
      is = next;
    }
  };

  const parsed = (html) => {
    const template = document.createElement("template");
    template.innerHTML = html;
    return template.content;
  };
  const renewCell = (cell, html) => {
    const only = cell.firstChild;
    // Most are a number, and need no parser.
    if (only && only === cell.lastChild && only.nodeType === Node.TEXT_NODE && html && !/[<&]/.test(html)) {
      only.data = html;
    } else {
      renewInside(cell, parsed(html));
    }
  };

  const update = ({ data }) => {
    const { at, fragments, cells, error } = JSON.parse(data);
    heard = performance.now();
    retry = RETRY_MIN_MS;
    if (error) {
      lost(error);
      return;
    }
    for (const [id, html] of Object.entries(fragments)) {
      const old = document.getElementById(id);
      const fresh = parsed(html).firstElementChild;
      if (old && fresh) renew(old, fresh);
    }
    for (const [id, changed] of Object.entries(cells)) {
      const old = document.getElementById(id);
      const all = old ? old.querySelectorAll("td, th") : [];
      for (const [number, html] of changed) {
        if (all[number]) renewCell(all[number], html);
      }
    }
    if (time.textContent !== at) time.textContent = at;
    show("live", "Live");
  };

  const stop = () => {
    clearTimeout(timer);
    if (source) source.close();
    source = null;
  };
  const start = () => {
    stop();
    source = new EventSource(box.dataset.events);
    source.onmessage = update;
    source.onerror = () => {
      // A stream that ended is opened again by the browser; one that was refused is not.
      if (source && source.readyState === EventSource.CLOSED) {
        lost("");
        stop();
        timer = setTimeout(start, retry);
        retry = Math.min(2 * retry, RETRY_MAX_MS);
      }
    };
  };

  document.addEventListener("visibilitychange", () => {
    if (document.hidden) {
      stop();
      show("paused", "Paused");
    } else {
      heard = performance.now();
      start();
    }
  });
  setInterval(() => {
    if (!document.hidden && performance.now() - heard > SILENCE_MS && box.dataset.state !== "lost") lost("");
  }, 1000);
  heard = performance.now();
  if (!document.hidden) start();
})();
