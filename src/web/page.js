"use strict";
// Keeps the page up to date: the service sends the parts that changed, as HTML that it made itself.
(() => {
  const live = document.getElementById("live");
  const source = new EventSource("/events");
  source.onmessage = (event) => {
    for (const [id, html] of Object.entries(JSON.parse(event.data))) {
      const part = document.getElementById(id);
      if (part) {
        const focused = part.contains(document.activeElement) ? document.activeElement.getAttribute("aria-label") : null;
        part.innerHTML = html;
        if (focused) {
          part.querySelector(`[aria-label="${CSS.escape(focused)}"]`)?.focus();
        }
      }
    }
    live.textContent = "live";
  };
  source.onerror = () => {
    live.textContent = source.readyState === EventSource.CLOSED ? "as it was when this page was opened" : "the service does not answer; trying again";
  };
})();
