// A plain EventSource, and what can be counted from outside of it.

import { Tally } from "./tally.js";

const encoder = new TextEncoder();
const REMEMBERED_MS = 60_000;

export class Stream extends EventTarget {
  // Events of its own: "message" (detail: channel, event, data, json), "gap", "end", "change".
  constructor(url, { names = ["message"], numbered = true } = {}) {
    super();
    this.url = new URL(url, location.href);
    this.several = this.url.searchParams.getAll("channel").length > 1;
    this.numbered = numbered;
    this.opened = 0;
    this.events = 0;
    this.bytes = 0;
    this.gaps = 0;
    this.lastGap = null;
    this.cursor = this.url.searchParams.get("last_event_id") ?? "";
    this.state = "connecting";
    this.since = performance.now();
    this.spells = []; // when it was open: [from, to], `to` null while it is
    this.tallies = new Map();
    this.source = new EventSource(this.url);
    this.source.addEventListener("open", () => this.#opened());
    this.source.addEventListener("error", () => this.#closed());
    for (const name of names) this.source.addEventListener(name, (event) => this.#take(name, event));
    this.source.addEventListener("gap", (event) => this.#gap(event));
    this.source.addEventListener("end", (event) => this.#end(event));
  }

  get client() {
    return this.url.searchParams.get("client") ?? "";
  }

  get isOpen() {
    return this.state === "open";
  }

  get lost() {
    return this.#sum("lost");
  }

  get repeated() {
    return this.#sum("repeated");
  }

  // The share of the time since the start that the connection was open, 0 to 1.
  openShare(now = performance.now()) {
    return this.#openMs(now) / Math.max(1, (this.over ?? now) - this.since);
  }

  #spent = 0; // open milliseconds of the spells that were forgotten

  #openMs(now) {
    return this.spells.reduce((sum, [from, to]) => sum + (to ?? now) - from, this.#spent);
  }

  #sum(what) {
    let sum = 0;
    for (const tally of this.tallies.values()) sum += tally[what];
    return sum;
  }

  #opened() {
    this.opened += 1;
    this.state = "open";
    this.spells.push([performance.now(), null]);
    this.#changed();
  }

  #closed() {
    this.#hangUp();
    // CLOSED without `end`: the browser will not try again.
    this.state = this.source.readyState === EventSource.CLOSED ? "over" : "waiting";
    this.#changed();
  }

  #hangUp() {
    const now = performance.now();
    const last = this.spells.at(-1);
    if (last && last[1] === null) last[1] = now;
    while (this.spells.length > 1 && this.spells[0][1] !== null && this.spells[0][1] < now - REMEMBERED_MS) {
      const [from, to] = this.spells.shift();
      this.#spent += to - from;
    }
    if (this.source.readyState === EventSource.CLOSED) this.over ??= now;
  }

  #take(name, event) {
    this.events += 1;
    this.bytes += encoder.encode(event.data).length;
    this.cursor = event.lastEventId;
    let channel = "";
    let data = event.data;
    if (this.several) ({ channel, data } = JSON.parse(event.data));
    const json = this.numbered ? parse(data) : null;
    if (Number.isInteger(json?.n)) {
      if (!this.tallies.has(channel)) this.tallies.set(channel, new Tally());
      this.tallies.get(channel).take(json.n);
    }
    this.dispatchEvent(new CustomEvent("message", { detail: { channel, event: name, data, json } }));
    this.#changed();
  }

  #gap(event) {
    this.gaps += 1;
    this.cursor = event.lastEventId;
    this.lastGap = parse(event.data);
    this.dispatchEvent(new CustomEvent("gap", { detail: this.lastGap }));
    this.#changed();
  }

  #end(event) {
    this.cursor = event.lastEventId;
    this.source.close();
    this.#hangUp();
    this.state = "finished";
    this.dispatchEvent(new CustomEvent("end", { detail: parse(event.data) }));
    this.#changed();
  }

  #changed() {
    this.dispatchEvent(new Event("change"));
  }
}

function parse(text) {
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
}
