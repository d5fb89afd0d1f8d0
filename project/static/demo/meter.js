// The counters beside a stream, and the strip that shows when it was open.

import { Stream } from "./stream.js";

const SVG = "http://www.w3.org/2000/svg";
const STRIP_MS = 30_000;
const STATES = {
  connecting: "connecting",
  open: "open",
  waiting: "closed, comes back by itself",
  finished: "finished",
  over: "given up by the browser",
};
const whole = new Intl.NumberFormat("en");

// Start the stream that the element describes, keep its counters, and return it.
export function follow(element) {
  const { url, names, numbered } = element.dataset;
  const stream = new Stream(url, { names: names.split(","), numbered: numbered === "yes" });
  const field = (name) => element.querySelector(`[data-field="${name}"]`);
  const strip = element.querySelector(".strip");

  const show = () => {
    const values = {
      state: STATES[stream.state],
      opened: whole.format(stream.opened),
      open: stream.isOpen ? "yes" : "no",
      share: stream.opened ? `${Math.round(100 * stream.openShare())}%` : "–",
      events: whole.format(stream.events),
      bytes: whole.format(stream.bytes),
      gaps: whole.format(stream.gaps),
      lost: stream.numbered ? whole.format(stream.lost) : "not numbered",
      repeated: stream.numbered ? whole.format(stream.repeated) : "not numbered",
      cursor: stream.cursor || "–",
      remark: remark(stream),
    };
    for (const [name, value] of Object.entries(values)) {
      const place = field(name);
      if (place.textContent !== value) place.textContent = value;
    }
    element.dataset.state = stream.state;
    field("lost").parentElement.classList.toggle("bad", stream.lost > 0);
    field("repeated").parentElement.classList.toggle("bad", stream.repeated > 0);
    element.classList.toggle("bad", stream.lost + stream.repeated > 0);
    draw(strip, stream);
  };

  let due = false;
  stream.addEventListener("change", () => {
    if (due) return;
    due = true;
    requestAnimationFrame(() => {
      due = false;
      show();
    });
  });
  setInterval(show, 250);
  show();
  return stream;
}

function remark(stream) {
  if (stream.state === "over") {
    return "The server answered with something that a browser does not retry. Reload the page to begin anew.";
  }
  if (stream.lastGap) {
    const { channel, from, to, reason } = stream.lastGap;
    return `The last gap: ${channel}, ${from} to ${to} (${reason}).`;
  }
  if (!stream.numbered) {
    return "These lines carry no number of their producer’s, so lost and repeated ones cannot be counted here.";
  }
  return "Lost and repeated are counted against the producer’s own numbers in the data.";
}

function draw(strip, stream) {
  const now = performance.now();
  const from = now - STRIP_MS;
  const bars = stream.spells
    .filter(([, to]) => to === null || to > from)
    .map(([start, to]) => [Math.max(start, from), to ?? now]);
  while (strip.childElementCount > bars.length) strip.lastChild.remove();
  while (strip.childElementCount < bars.length) strip.append(document.createElementNS(SVG, "rect"));
  bars.forEach(([start, end], index) => {
    const bar = strip.children[index];
    const x = (300 * (start - from)) / STRIP_MS;
    bar.setAttribute("x", x.toFixed(2));
    bar.setAttribute("y", "0");
    bar.setAttribute("height", "20");
    // A burst of a few milliseconds is still to be seen.
    bar.setAttribute("width", Math.max(1.2, (300 * (end - start)) / STRIP_MS).toFixed(2));
  });
}
