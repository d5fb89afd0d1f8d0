// PolledEventSource: an EventSource that knows what this app's streams do. Types: client.d.ts.
//
// Three pure parts and a shell. `EventStreamParser` turns bytes into blocks. `Connection` is one reader of
// the server: inputs are answers, bytes, ends and timers, outputs are actions. `Member` is one tab of those
// that share a connection. Neither has a clock, randomness or a browser: `PolledEventSource` brings them.
//
// One file on purpose: a hashed name (ManifestStaticFilesStorage) would not reach an import of another.
//
// What holds, whatever tabs, locks and messages do (the chain): every item says between which two cursors
// it stands, and a tab delivers an item only if it begins at the tab's own cursor. The server's contract is
// that what it sends after a cursor is all that follows it, so each tab sees each event after its own cursor
// once and in order. The lock decides who asks the server, never what a tab delivers.

const VERSION = 1; // of what tabs say to each other: tabs with another one share with their own kind

const CONNECTING = 0;
const OPEN = 1;
const CLOSED = 2;

const OURS = ["busy", "client", "last_event_id"]; // parameters that the client sets itself
const SIGNATURE = "signature"; // differs between tabs that read the same

const DEFAULTS = Object.freeze({
  silenceMs: 65_000, // a burst (30 s), a heartbeat (20 s), and reserve
  backoffMs: 1_000,
  backoffCapMs: 60_000,
  probeMs: 30_000, // how long before SSE is tried again
  maxEventLength: 1_048_576,
});

const ANSWER_EVENTS = 16; // so many of the longest events have room in a long-poll's answer
const ANSWER_LENGTH = 16_777_216; // which has this much room in any case: a server's burst does not know our limit
const RETRY_MS = 3_000; // as browsers do, until the server says it
const LONGEST_RETRY_AFTER_MS = 3_600_000;
const LONGEST_PROBE_MS = 300_000;
const FAILURES_UNTIL_POLL = 3;
const GOODBYE_MS = 2_000; // for the server to end a stream whose `close` was acked
const RENEW_MS = 60_000;
const RENEWALS = 3; // in a row, none of which helped

const LOG_ITEMS = 1_000;
const LOG_LENGTH = 1_048_576;
const ASK_MS = 1_000; // for the owner's answer
const SETTLE_MS = 150; // for what other tabs had and a new owner has not
const ALONE_MS = 2_000; // between two tries to share again
const WATCH_MS = 5_000; // beyond the silence that an owner may keep
const TICK_MS = 50;
const LONGEST_TIMER_MS = 2 ** 31 - 1; // a browser takes more for none

/** No, and not only now. */
const isDenied = (status) => status >= 400 && status < 500 && ![408, 425, 429].includes(status);

// --- the format ---------------------------------------------------------------------------------------

/**
 * Turn bytes, cut anywhere, into blocks (WHATWG HTML, 9.2.5 and 9.2.6).
 *
 * A block that has no data but moves the last event id is one too, without an event: the standard sets the
 * id at each blank line.
 */
export class EventStreamParser {
  #decoder = new TextDecoder(); // takes one byte order mark off the start
  #pieces = []; // of a line that has not ended
  #length = 0; // of them
  #afterCR = false;
  #id;
  #type = "";
  #data = [];
  #dataLength = 0;
  #maxLength;

  /** @param {{lastEventId?: string, maxLength?: number}} [options] */
  constructor({ lastEventId = "", maxLength = DEFAULTS.maxEventLength } = {}) {
    /** The cursor: what the last finished block left. */
    this.lastEventId = lastEventId;
    /** What the server last said, in milliseconds; null before. */
    this.retryMs = null;
    /** How often it said that. */
    this.retries = 0;
    /** A line, or an event's data, is longer than allowed; nothing more is read. */
    this.overflow = false;
    this.#id = lastEventId;
    this.#maxLength = maxLength;
  }

  /** True between two blocks: nothing is lost if the stream ends here. */
  get isClean() {
    return !this.#length && !this.#data.length && !this.#type && this.#id === this.lastEventId;
  }

  /**
   * Take more of the stream.
   * @param {Uint8Array} chunk
   * @returns {{from: string, to: string, event: {type: string, data: string} | null}[]}
   */
  feed(chunk) {
    const text = this.#decoder.decode(chunk, { stream: true });
    const blocks = [];
    if (!text || this.overflow) return blocks;
    let start = this.#afterCR && text[0] === "\n" ? 1 : 0;
    this.#afterCR = text.endsWith("\r");
    const ends = /\r\n?|\n/g;
    ends.lastIndex = start;
    for (let end = ends.exec(text); end; end = ends.exec(text)) {
      this.#keep(text.slice(start, end.index));
      start = ends.lastIndex;
      const line = this.#pieces.length === 1 ? this.#pieces[0] : this.#pieces.join("");
      this.#pieces = [];
      this.#length = 0;
      const block = line ? this.#field(line) : this.#blank();
      if (this.overflow) return blocks;
      if (block) blocks.push(block);
    }
    this.#keep(text.slice(start));
    return blocks;
  }

  #keep(piece) {
    if (!piece) return;
    this.#length += piece.length;
    if (this.#length > this.#maxLength) this.overflow = true;
    else this.#pieces.push(piece);
  }

  #field(line) {
    const colon = line.indexOf(":");
    if (colon === 0) return; // a comment
    const name = colon < 0 ? line : line.slice(0, colon);
    let value = colon < 0 ? "" : line.slice(colon + 1);
    if (value.startsWith(" ")) value = value.slice(1);
    if (name === "data") {
      this.#dataLength += value.length + 1;
      if (this.#dataLength > this.#maxLength + 1) this.overflow = true;
      this.#data.push(value);
    } else if (name === "event") {
      this.#type = value;
    } else if (name === "id") {
      if (!value.includes("\0")) this.#id = value;
    } else if (name === "retry" && /^[0-9]+$/.test(value)) {
      this.retryMs = Math.min(Number(value), LONGEST_RETRY_AFTER_MS);
      this.retries += 1;
    }
  }

  #blank() {
    const from = this.lastEventId;
    const event = this.#data.length ? { type: this.#type || "message", data: this.#data.join("\n") } : null;
    this.lastEventId = this.#id;
    this.#type = "";
    this.#data = [];
    this.#dataLength = 0;
    return event || from !== this.#id ? { from, to: this.#id, event } : null;
  }
}

/**
 * Return the items of a long-poll's answer, for a client at *from*.
 *
 * On a stream of several channels only the whole answer has a cursor, so it is one item: its events carry
 * the cursor before it, and the last one the cursor after it. Raises for what is no such answer.
 */
export function readAnswer(text, { from, several }) {
  const answer = JSON.parse(text);
  if (!answer || !Array.isArray(answer.events)) throw new TypeError("this is no long-poll's answer");
  const last = typeof answer.last_event_id === "string" ? answer.last_event_id : "";
  const items = [];
  const events = answer.events.map(({ channel, id, event, data }) => ({
    type: event || "message",
    data: several && event !== "gap" ? JSON.stringify({ channel, id, event, data }) : data,
    id,
  }));
  let at = from;
  if (several) {
    const to = last || at;
    const said = events.map(({ type, data }, index) => ({
      type,
      data,
      lastEventId: index === events.length - 1 ? to : at,
    }));
    if (said.length || to !== at) items.push({ from: at, to, events: said });
  } else {
    for (const { type, data, id } of events) {
      const to = id || at;
      items.push({ from: at, to, events: [{ type, data, lastEventId: to }] });
      at = to;
    }
    if (last && last !== at) items.push({ from: at, to: last, events: [] });
  }
  const retryMs = Number.isFinite(answer.retry) ? Math.max(0, Math.min(answer.retry, LONGEST_RETRY_AFTER_MS)) : null;
  return { items, count: events.length, retryMs, end: answer.end === true };
}

/** Return how long `Retry-After` asks to wait, in milliseconds: seconds or an HTTP date. Null without. */
export function readRetryAfter(value, now) {
  if (!value) return null;
  const text = value.trim();
  const ms = /^[0-9]+$/.test(text) ? Number(text) * 1000 : Date.parse(text) - now;
  return Number.isNaN(ms) ? null : Math.max(0, Math.min(ms, LONGEST_RETRY_AFTER_MS));
}

/** Return the address that a `Link` header calls `alternate`, resolved; null without, or at another origin. */
export function readAlternate(value, base) {
  for (const [, target, parameters] of (value || "").matchAll(/<([^>]*)>([^<]*)/g)) {
    if (!/;\s*rel\s*=\s*(?:"(?:[^"]*\s)?alternate(?:\s[^"]*)?"|alternate(?:[\s;,]|$))/i.test(parameters)) continue;
    try {
      const url = new URL(target, base);
      if (url.origin === new URL(base).origin) return url.href;
    } catch {
      continue;
    }
  }
  return null;
}

/** A stream's address, and those that belong to it. */
export class Address {
  /**
   * @param {string} url absolute
   * @param {{pollUrl?: string, ackUrl?: string, origin?: string}} [options] *origin*: the page's own
   */
  constructor(url, { pollUrl, ackUrl, origin = "" } = {}) {
    const parsed = new URL(url);
    parsed.hash = "";
    /** Where the address itself says to begin. */
    this.cursor = parsed.searchParams.get("last_event_id") || "";
    for (const name of OURS) parsed.searchParams.delete(name);
    // In one order: the cursor of several channels is spelled in the order in which they are asked for.
    const channels = [...new Set(parsed.searchParams.getAll("channel"))].sort();
    parsed.searchParams.delete("channel");
    const others = [...parsed.searchParams];
    parsed.search = new URLSearchParams([...channels.map((name) => ["channel", name]), ...others]).toString();
    this.several = channels.length > 0;
    this.single = channels.length <= 1;
    this.stream = parsed.href;
    this.origin = parsed.origin;
    this.isSameOrigin = parsed.origin === origin;
    const poll = new URL(parsed);
    if (!poll.pathname.endsWith("/")) poll.pathname += "/";
    poll.pathname += "poll/";
    this.poll = pollUrl ? new URL(pollUrl, url).href : poll.href;
    this.ack = new URL(ackUrl || (channels.length ? "ack/" : "../ack/"), url).href;
    const key = new URL(parsed);
    key.searchParams.delete(SIGNATURE);
    /** The same for all that read the same. */
    this.key = key.href;
  }
}

// --- one reader of the server -------------------------------------------------------------------------

/**
 * The state machine of one connection: SSE, and long-poll while SSE does not get through.
 *
 * `handle(input)` returns actions. Inputs: `start`, `response`, `bytes`, `body`, `end`, `error` (each with the
 * attempt it belongs to), `timer`, `renewed`, `renewFailed`, `online`, `visible`, `stop`. An item is
 * `{from, to, events}`: what stands between two cursors.
 */
export class Connection {
  #out = [];
  #attempt = 0;
  #state = "idle"; // asking, reading, waiting, renewing, idle, closed
  #kind = "stream";
  #parser = null;
  #isReal = false; // this stream has said who it is
  #events = 0;
  #isDraining = false;
  #heardAt = 0;
  #told = null; // the last `retry:`, in milliseconds
  #failures = 0; // in a row, of any kind
  #streamFailures = 0; // in a row, of streams
  #mayHurry = false; // it waits for a network, and for nothing that a server said
  #isPolling = false;
  #probeAt = 0;
  #probes = 0; // in a row, that failed
  #poll = null; // where a 503 said
  #renewals = 0; // in a row
  #renewedAt = -Infinity;

  constructor({ address, cursor, client, canRenew = false, now, random, attempt = 0, ...options }) {
    this.#attempt = attempt; // those before it were other connections'
    this.address = address;
    this.cursor = cursor;
    this.client = client;
    this.options = { ...DEFAULTS, ...options };
    this.canRenew = canRenew;
    this.now = now;
    this.random = random;
  }

  get transport() {
    return this.#kind;
  }

  get attempt() {
    return this.#attempt;
  }

  get #retryMs() {
    return this.#told ?? RETRY_MS;
  }

  handle(input) {
    this.#out = [];
    if (this.#state !== "closed") this.#take(input);
    return this.#out;
  }

  #take(input) {
    switch (input.type) {
      case "start":
        return this.#ask();
      case "stop":
        return this.#stop("idle");
      case "timer":
        return this.#timer(input.name);
      case "online":
      case "visible":
        // A machine that slept has timers that did not run.
        if (this.#isOpen && this.now() - this.#heardAt > this.options.silenceMs) this.#timer("silence");
        if (input.type === "online" && this.#state === "waiting" && this.#mayHurry) {
          this.#probeAt = 0; // another network may let streams through
          this.#ask();
        }
        return;
      case "renewed":
        if (this.#state !== "renewing") return;
        this.address = input.address;
        this.#poll = null;
        return this.#ask();
      case "renewFailed":
        if (this.#state === "renewing") this.#denied({ reason: "renew", status: 0 });
        return;
    }
    if (input.attempt !== this.#attempt || !this.#isOpen) return;
    switch (input.type) {
      case "response":
        return this.#response(input);
      case "bytes":
        return this.#bytes(input.chunk);
      case "body":
        return this.#body(input.text);
      case "end":
        return this.#end();
      case "error":
        // A server that asked to leave, and is gone, has kept its word.
        return this.#isDraining ? this.#planned() : this.#fail({ reason: "network" });
    }
  }

  get #isOpen() {
    return this.#state === "asking" || this.#state === "reading";
  }

  #do(name, more = {}) {
    this.#out.push({ do: name, ...more });
  }

  #ask() {
    this.#abort();
    this.#do("clear", { name: "reconnect" });
    this.#kind = this.#isPolling && this.now() <= this.#probeAt ? "poll" : "stream";
    this.#state = "asking";
    this.#parser = null;
    this.#isReal = false;
    this.#isDraining = false;
    this.#mayHurry = false;
    this.#events = 0;
    this.#attempt += 1;
    const url = new URL(this.#kind === "poll" ? this.#poll || this.address.poll : this.address.stream);
    for (const name of OURS) url.searchParams.delete(name);
    url.searchParams.set("busy", "stream");
    url.searchParams.set("client", this.client);
    const headers = { Accept: this.#kind === "poll" ? "application/json" : "text/event-stream" };
    if (this.cursor) {
      // The header keeps cursors out of logs and out of the address's limits. At another origin it would
      // cost a preflight (it is not CORS-safelisted), which a stream's address does not answer.
      if (this.address.isSameOrigin && /^[\x21-\x7e]*$/.test(this.cursor)) headers["Last-Event-ID"] = this.cursor;
      else url.searchParams.set("last_event_id", this.cursor);
    }
    this.#do("fetch", { attempt: this.#attempt, url: url.href, headers, as: this.#kind });
    this.#heard();
  }

  #heard() {
    this.#heardAt = this.now();
    this.#do("timer", { name: "silence", ms: this.options.silenceMs });
  }

  #abort() {
    if (this.#isOpen) this.#do("abort", { attempt: this.#attempt });
    this.#do("clear", { name: "silence" });
    this.#do("clear", { name: "goodbye" });
  }

  #stop(state) {
    this.#abort();
    this.#do("clear", { name: "reconnect" });
    this.#do("clear", { name: "renew" });
    this.#state = state;
  }

  #wait(ms) {
    this.#abort();
    this.#state = "waiting";
    this.#do("timer", { name: "reconnect", ms });
  }

  #timer(name) {
    if (name === "reconnect" && this.#state === "waiting") this.#ask();
    else if (name === "silence" && this.#isOpen) this.#fail({ reason: "silence" });
    else if (name === "silence" && this.#state === "renewing") this.#denied({ reason: "renew", status: 0 });
    else if (name === "goodbye" && this.#isOpen) this.#planned(); // our close is an ack, too
    else if (name === "renew" && this.#state === "waiting") this.#renew();
  }

  #response({ status, headers = {} }) {
    this.#heard();
    const type = (headers.contentType || "").split(";")[0].trim().toLowerCase();
    if (status === 204) return this.#over();
    if (status !== 200) return this.#fail({ reason: "status", status, headers });
    const expected = this.#kind === "poll" ? "application/json" : "text/event-stream";
    if (type !== expected) return this.#fail({ reason: "type", status, headers });
    this.#state = "reading";
    if (this.#kind === "stream") {
      const { maxEventLength } = this.options;
      this.#parser = new EventStreamParser({ lastEventId: this.cursor, maxLength: maxEventLength });
      if (headers.stream) {
        this.#isReal = true;
        this.#renewals = 0;
      }
      this.#do("opened");
    }
  }

  /** Note that a stream is one, and no refusal: it has brought something, or come to its planned end. */
  #works() {
    this.#isReal = true;
    this.#isPolling = false;
    this.#poll = null;
    this.#streamFailures = 0;
    this.#probes = 0;
    this.#answers();
  }

  #answers() {
    this.#failures = 0;
    this.#renewals = 0;
  }

  #bytes(chunk) {
    if (this.#state !== "reading") return;
    this.#heard();
    if (!this.#parser) return; // a part of a long-poll's answer
    const blocks = this.#parser.feed(chunk);
    this.#told = this.#parser.retryMs ?? this.#told;
    const items = blocks.map(({ from, to, event }) => ({
      from,
      to,
      events: event ? [{ ...event, lastEventId: to }] : [],
    }));
    const said = blocks.filter(({ event }) => event).map(({ event }) => event.type);
    // An empty message may be how a server primes its clients (PRIMING), also as it refuses them.
    if (blocks.some(({ event }) => event && (event.data || event.type !== "message"))) this.#works();
    if (items.length) {
      this.cursor = this.#parser.lastEventId;
      this.#events += said.filter((type) => type !== "close").length;
      this.#do("items", { items });
    }
    if (this.#parser.overflow) return this.#close({ reason: "length" });
    if (this.address.single && said.includes("end")) return this.#over();
    if (said.includes("close") && !this.#isDraining) {
      this.#isDraining = true;
      this.#do("ack", { url: this.address.ack, body: `client=${this.client}` });
      this.#do("timer", { name: "goodbye", ms: GOODBYE_MS });
    }
  }

  #end() {
    if (this.#kind === "poll" || !this.#parser) return this.#fail({ reason: "cut" });
    if (this.#isDraining) return this.#planned();
    const { isClean, retries } = this.#parser;
    // A stream says when to come back as it opens; nothing at all is what a broken proxy says.
    if (!isClean || (!retries && !this.#events)) return this.#fail({ reason: "cut" });
    if (!this.#isReal && retries === 1) return this.#refused();
    this.#works();
    this.#planned();
  }

  #planned() {
    const events = this.#events;
    const transport = this.#kind;
    const draining = this.#isDraining;
    const ms = draining ? Math.round(this.random() * this.#retryMs) : this.#retryMs;
    this.#wait(ms);
    this.#do("burst", { detail: { events, retry: this.#retryMs, transport, draining }, wait: ms });
  }

  /** Poll: a stream said nothing but when to come back. */
  #refused() {
    this.#answers();
    this.#pollUntil(Math.max(this.options.backoffMs, this.#retryMs));
    this.#pause(Math.round(this.random() * Math.min(this.options.backoffMs, this.#retryMs)));
  }

  #pause(ms) {
    this.#wait(ms);
    this.#do("paused", { wait: ms });
  }

  /** Poll, once at least, and try a stream again when the server says so; without its word ever more seldom. */
  #pollUntil(asked) {
    const { backoffMs, probeMs } = this.options;
    let ms = Math.max(asked ?? 0, backoffMs);
    if (asked === null) {
      ms = Math.min(probeMs * 2 ** Math.min(this.#probes, 10), Math.max(probeMs, LONGEST_PROBE_MS));
      this.#probes += 1;
    }
    this.#isPolling = true;
    this.#probeAt = this.now() + ms;
  }

  #body(text) {
    if (this.#kind !== "poll" || this.#state !== "reading") return;
    let answer;
    try {
      answer = readAnswer(text, { from: this.cursor, several: this.address.several });
    } catch {
      return this.#fail({ reason: "answer" });
    }
    this.#answers();
    this.#do("opened");
    this.#events = answer.count;
    this.#told = answer.retryMs ?? this.#told;
    if (answer.items.length) {
      this.cursor = answer.items.at(-1).to;
      this.#do("items", { items: answer.items });
    }
    if (answer.end) return this.#over();
    this.#planned();
  }

  #fail({ reason, status = 0, headers = {} }) {
    const isProbe = this.#kind === "stream" && this.#isPolling;
    // Where to poll may be a guess: that nothing is there is no word on the stream.
    const isNowhere = this.#kind === "poll" && status === 404;
    if (isNowhere) this.#isPolling = false;
    else if (isDenied(status)) return this.#denied({ reason, status });
    const { backoffMs, backoffCapMs } = this.options;
    const asked = readRetryAfter(headers.retryAfter, this.now());
    const alternate = this.#kind === "stream" ? readAlternate(headers.link, this.address.stream) : null;
    if (this.#kind === "stream") {
      this.#streamFailures += 1;
      if (alternate) this.#poll = alternate;
      const isFatal = status >= 500 || status === 429;
      if (isFatal || isProbe || this.#streamFailures >= FAILURES_UNTIL_POLL) this.#pollUntil(asked);
    }
    let ms;
    if (isProbe || alternate) {
      ms = this.random() * backoffMs; // there is another way, which is not known to fail
    } else {
      this.#failures += 1;
      // Full jitter. A server that said to come back in a minute is not asked sooner for having failed.
      const base = Math.max(backoffMs, this.#told ?? 0);
      ms = this.random() * Math.min(backoffCapMs, base * 2 ** Math.min(this.#failures - 1, 16));
      // Never before it asked; and `0`, or a date that this clock has passed, is no leave to ask for ever.
      if (asked !== null) ms = Math.max(ms, asked + this.random() * Math.max(backoffMs, asked / 10));
    }
    ms = Math.round(ms);
    this.#mayHurry = !status && asked === null;
    if (isProbe) return this.#pause(ms);
    const transport = this.#kind;
    this.#wait(ms);
    this.#do("error", { detail: { reason, status, retry: ms, transport, closed: false }, wait: ms });
  }

  #denied({ reason, status }) {
    if (!this.canRenew || this.#renewals >= RENEWALS) return this.#close({ reason, status });
    const ms = Math.max(0, Math.ceil(this.#renewedAt + RENEW_MS - this.now()));
    if (!ms) return this.#renew();
    const transport = this.#kind;
    this.#abort();
    this.#state = "waiting";
    this.#do("timer", { name: "renew", ms });
    this.#do("error", { detail: { reason, status, retry: ms, transport, closed: false }, wait: ms });
  }

  #renew() {
    this.#abort();
    this.#renewedAt = this.now();
    this.#renewals += 1;
    this.#state = "renewing";
    this.#do("timer", { name: "silence", ms: this.options.silenceMs });
    this.#do("renew");
  }

  #close({ reason, status = 0 }) {
    this.#stop("closed");
    const transport = this.#kind;
    this.#do("closed", { detail: { reason, status, retry: null, transport, closed: true } });
  }

  #over() {
    this.#stop("closed");
    this.#do("over");
  }
}

// --- tabs that share --------------------------------------------------------------------------------------

/** The newest items, each beginning where the one before it ended. */
class Log {
  #items = [];
  #length = 0;

  constructor(start) {
    this.start = start;
  }

  get end() {
    return this.#items.length ? this.#items.at(-1).to : this.start;
  }

  push(item) {
    if (item.from !== this.end) {
      this.start = item.from;
      this.#items = [];
      this.#length = 0;
    }
    this.#items.push(item);
    this.#length += Log.#size(item);
    while (this.#items.length > LOG_ITEMS || this.#length > LOG_LENGTH) {
      const oldest = this.#items.shift();
      this.#length -= Log.#size(oldest);
      this.start = oldest.to;
    }
  }

  has(cursor) {
    return this.#items.some(({ to }) => to === cursor) || (cursor !== "" && this.start === cursor);
  }

  /** Return what follows *cursor*, or null if that is no place here. */
  after(cursor) {
    if (!cursor) return null;
    for (let index = this.#items.length; index > 0; index -= 1) {
      if (this.#items[index - 1].to === cursor) return this.#items.slice(index);
    }
    return this.start === cursor ? this.#items.slice() : null;
  }

  static #size(item) {
    return item.events.reduce((sum, event) => sum + event.data.length, 100);
  }
}

/**
 * One tab of those that share a connection, or the only one if *shared* is false.
 *
 * Roles: `owning` has the lock and asks the server; `following` delivers what the owner posts; `asking`
 * waits to be told what it lacks; `alone` has a connection of its own until its cursor is a place of the
 * owner's; `claiming` has the lock and asks the others what it lacks; `away` is frozen; `closed`.
 */
export class Member {
  #out = [];
  #role = "new";
  #log;
  #theirs = null; // alone: what the owner posted meanwhile
  #leader = null;
  #isQueued = false;
  #isSuspicious = false; // the owner has been silent
  #isVisible = true;
  #readyState = CONNECTING;
  #transport = "stream";
  #saidEnd = false;
  #connection = null;
  #attempt = 0;

  constructor({ id, address, cursor, shared, token, now, random, ...options }) {
    this.id = id;
    this.address = address;
    this.cursor = cursor;
    this.shared = shared;
    this.token = token;
    this.now = now;
    this.random = random;
    this.options = options;
    this.silenceMs = options.silenceMs ?? DEFAULTS.silenceMs;
    this.#log = new Log(cursor);
  }

  get role() {
    return this.#role;
  }

  get readyState() {
    return this.#readyState;
  }

  get transport() {
    return this.#transport;
  }

  handle(input) {
    this.#out = [];
    if (this.#role !== "closed") this.#take(input);
    return this.#out;
  }

  #take(input) {
    switch (input.type) {
      case "start":
        return this.#start();
      case "close":
        return this.#leave("closed");
      case "away":
        return this.#role === "away" || this.#leave("away");
      case "back":
        return this.#role === "away" && this.#start();
      case "lock":
        return this.#lock(input.got);
      case "lost":
        return this.#lost();
      case "message":
        return this.#message(input.message);
      case "timer":
        if (["ask", "settle", "alone", "watch", "tick"].includes(input.name)) return this.#timer(input.name);
        break;
      case "visible":
        this.#isVisible = input.visible;
        if (!this.#isVisible) return;
        this.#do("due");
        if (this.#role === "following") this.#post("tick");
        break;
      case "renewed":
        this.address = input.address;
        break;
    }
    if (this.#connection) this.#through(input);
  }

  #do(name, more = {}) {
    this.#out.push({ do: name, ...more });
  }

  #post(kind, more = {}) {
    if (this.shared) this.#do("post", { message: { kind, from: this.id, ...more } });
  }

  // The connection

  #connect() {
    this.#connection = new Connection({
      ...this.options,
      address: this.address,
      cursor: this.cursor,
      client: this.token(),
      attempt: this.#attempt,
      now: this.now,
      random: this.random,
    });
    this.#through({ type: "start" });
  }

  #disconnect() {
    const connection = this.#connection;
    this.#connection = null;
    if (!connection) return;
    this.#attempt = connection.attempt;
    this.#out.push(...connection.handle({ type: "stop" }));
  }

  #through(input) {
    const connection = this.#connection;
    for (const action of connection.handle(input)) {
      if (this.#connection !== connection) {
        // It was given up meanwhile, and stopped after it had decided this.
        if (["abort", "ack"].includes(action.do)) this.#out.push(action);
        continue;
      }
      this.#transport = connection.transport;
      switch (action.do) {
        case "items":
          if (this.#role === "owning") this.#post("items", { items: action.items });
          this.#apply(action.items);
          if (this.#role === "alone") this.#joinIfThere();
          break;
        case "opened":
          this.#tell("opened");
          break;
        case "burst":
        case "error":
        case "paused":
          this.#tell(action.do, action.detail, action.wait);
          break;
        case "closed":
          this.#leave("closed");
          this.#do("dispatch", { name: "error", detail: action.detail });
          break;
        case "over":
          if (this.#role === "owning") this.#post("over", { cursor: this.cursor });
          this.#over();
          break;
        default:
          this.#out.push(action);
      }
    }
  }

  /** Say how the connection is, here and to the tabs that follow. */
  #tell(name, detail, wait) {
    if (this.#role === "owning") this.#post("status", { name, detail, wait, transport: this.#transport });
    this.#hear(name, detail);
  }

  #hear(name, detail) {
    if (name === "opened") this.#ready(OPEN);
    else if (name === "error") this.#ready(CONNECTING);
    if (name === "error" || name === "burst") this.#do("dispatch", { name, detail });
  }

  #ready(state) {
    if (this.#readyState === state) return;
    this.#readyState = state;
    this.#do("state", { value: state });
    if (state === OPEN) this.#do("dispatch", { name: "open" });
  }

  #over() {
    const said = this.#saidEnd;
    this.#leave("closed");
    if (!said) this.#deliver({ to: this.cursor, events: [{ type: "end", data: "", lastEventId: this.cursor }] });
  }

  // The chain

  /** Deliver what follows the cursor; return false if anything here is neither that nor known already. */
  #apply(items) {
    for (const item of items) {
      if (item.from === this.cursor) {
        this.cursor = item.to;
        // Without an id there is no place: whoever is here sees it, and nobody is told of it later.
        if (item.from !== item.to) this.#log.push(item);
        this.#deliver(item);
      } else if (item.from !== item.to && !this.#log.has(item.to)) {
        return false;
      }
    }
    return true;
  }

  #deliver(item) {
    this.#saidEnd ||= item.events.some(({ type }) => type === "end");
    this.#do("deliver", { events: item.events, cursor: item.to });
  }

  // Roles

  #start() {
    this.#readyState = CONNECTING;
    this.#do("state", { value: CONNECTING });
    this.#role = "trying";
    if (this.shared) {
      this.#do("listen");
      this.#do("lock", { how: "try" });
    } else {
      this.#own();
    }
  }

  #leave(role) {
    this.#disconnect();
    for (const name of ["ask", "settle", "alone", "watch", "tick"]) this.#do("clear", { name });
    if (this.shared) {
      this.#unlock();
      this.#do("unlisten");
    }
    this.#role = role;
    this.#leader = null;
    this.#theirs = null;
    this.#readyState = role === "closed" ? CLOSED : CONNECTING;
    this.#do("state", { value: this.#readyState });
  }

  #unlock() {
    this.#isQueued = false;
    this.#do("unlock");
  }

  #lock(got) {
    this.#isQueued = false;
    if (this.#role === "trying") return got ? this.#own() : this.#ask();
    if (this.#role === "alone") return got ? this.#own() : this.#tryLater();
    if (!got) return;
    this.#role = "claiming";
    for (const name of ["ask", "watch", "tick"]) this.#do("clear", { name });
    this.#post("claim", { cursor: this.cursor });
    this.#do("timer", { name: "settle", ms: SETTLE_MS });
  }

  #own() {
    this.#role = "owning";
    this.#leader = null;
    this.#theirs = null;
    this.#isSuspicious = false;
    this.#do("clear", { name: "alone" });
    this.#post("lead", this.#standing);
    if (!this.#connection) this.#connect();
  }

  get #standing() {
    return { cursor: this.cursor, state: this.#readyState, transport: this.#transport };
  }

  /** Another tab stole the lock: this one did not answer in time. */
  #lost() {
    this.#do("clear", { name: "settle" });
    this.#disconnect();
    this.#leader = null;
    this.#ask();
  }

  #ask() {
    this.#role = "asking";
    this.#theirs = null;
    this.#do("clear", { name: "watch" });
    this.#post("hello", { cursor: this.cursor });
    this.#do("timer", { name: "ask", ms: ASK_MS });
  }

  #follow({ state, transport }) {
    this.#role = "following";
    this.#theirs = null;
    this.#isSuspicious = false;
    this.#disconnect();
    for (const name of ["ask", "alone"]) this.#do("clear", { name });
    this.#transport = transport;
    this.#ready(state);
    this.#watch();
    if (!this.#isQueued) {
      this.#isQueued = true;
      this.#do("lock", { how: "queue" });
    }
  }

  #watch() {
    const ms = this.silenceMs + WATCH_MS * (1 + this.random());
    this.#do("timer", { name: "watch", ms: Math.round(ms) });
  }

  #alone(theirs) {
    this.#role = "alone";
    this.#theirs = theirs;
    this.#unlock();
    for (const name of ["ask", "watch", "tick"]) this.#do("clear", { name });
    this.#tryLater();
    this.#connect();
  }

  #tryLater() {
    this.#do("timer", { name: "alone", ms: Math.round(ALONE_MS * (0.5 + this.random())) });
  }

  /** Follow, if the owner was or is exactly where this tab is. */
  #joinIfThere() {
    const rest = this.#theirs && this.#theirs.log.after(this.cursor);
    if (!rest) return;
    const { standing } = this.#theirs;
    this.#follow(standing);
    this.#apply(rest);
  }

  #timer(name) {
    if (name === "ask" && this.#role === "asking") {
      if (!this.#isSuspicious) return this.#alone(null);
      this.#isSuspicious = false;
      this.#unlock();
      this.#do("lock", { how: "steal" });
      this.#do("timer", { name: "ask", ms: ASK_MS });
    } else if (name === "settle" && this.#role === "claiming") {
      this.#own();
    } else if (name === "alone" && this.#role === "alone") {
      this.#post("hello", { cursor: this.cursor });
      this.#do("unlock");
      this.#do("lock", { how: "try" });
    } else if (name === "watch" && this.#role === "following") {
      this.#isSuspicious = true;
      this.#ask();
    } else if (name === "tick" && this.#role === "following") {
      this.#post("tick");
    }
  }

  // What tabs say

  #message(message) {
    const { kind, from } = message;
    if (from === this.id || ["new", "away"].includes(this.#role)) return;
    switch (kind) {
      case "hello":
        if (this.#role === "owning") this.#welcome(from, message.cursor);
        // A leader that asks has lost its lock, and may not have known that as it led.
        if (this.#role === "following" && from === this.#leader) this.#ask();
        return;
      case "tick":
        if (["owning", "claiming"].includes(this.#role)) this.#do("due");
        return;
      case "report":
        if (this.#role === "claiming" && message.to === this.id) this.#reported(message);
        return;
      case "welcome":
        if (message.to === this.id) this.#welcomed(message);
        return;
    }
    // What was still on its way from the owner before.
    if (this.#role === "claiming") {
      if (kind === "items") this.#apply(message.items);
      else if (kind === "over" && message.cursor === this.cursor) this.#over();
      return;
    }
    if (["owning", "trying"].includes(this.#role)) return;
    if (kind === "claim" || kind === "lead") this.#leader = from;
    // What the owner before this one still says: whoever owns now asks for it again.
    else if (this.#leader !== null && this.#leader !== from) return;
    if (this.#role === "following") this.#watch();
    switch (kind) {
      case "claim": {
        const items = this.#log.after(message.cursor) || [];
        if (items.length || !message.cursor) this.#post("report", { to: from, items, cursor: this.cursor });
        this.#keepTime(SETTLE_MS);
        return;
      }
      case "lead":
        return this.#led(message);
      case "items":
        return this.#given(message.items);
      case "status":
        return this.#status(message);
      case "over":
        if (this.#role === "following" && message.cursor === this.cursor) this.#over();
        return;
    }
  }

  #welcome(to, cursor) {
    const items = cursor === this.cursor || !cursor ? [] : this.#log.after(cursor);
    this.#post("welcome", { to, found: items !== null, items: items || [], ...this.#standing });
  }

  #reported({ items, cursor }) {
    // Without a cursor of its own the new owner has promised nothing yet, and begins where others are.
    if (!this.cursor && cursor) this.#begin(cursor);
    else this.#apply(items);
  }

  #begin(cursor) {
    this.cursor = cursor;
    this.#log = new Log(cursor);
    this.#deliver({ to: cursor, events: [] });
  }

  #welcomed(message) {
    if (!["asking", "alone"].includes(this.#role)) return;
    this.#leader = message.from;
    if (!this.cursor && message.cursor && this.#role === "asking") this.#begin(message.cursor);
    // A hello may be answered late: the chain says what of it is still to be delivered.
    const isThere = message.found && this.#apply(message.items) && this.#isAt(message.cursor);
    if (isThere) return this.#follow(message);
    if (this.#role === "asking") this.#alone({ log: new Log(message.cursor), standing: message });
    else this.#theirs = { log: new Log(message.cursor), standing: message };
  }

  #isAt(cursor) {
    return cursor === this.cursor || this.#log.has(cursor);
  }

  #led(message) {
    if (!this.cursor && this.#role !== "alone" && message.cursor) this.#begin(message.cursor);
    if (this.#role === "alone") {
      this.#theirs = { log: new Log(message.cursor), standing: message };
      if (message.cursor === this.cursor) this.#follow(message);
    } else if (this.#isAt(message.cursor)) {
      this.#follow(message); // at the same place, or ahead: what was had already is dropped
    } else {
      this.#ask();
    }
  }

  #given(items) {
    if (this.#role === "alone") {
      this.#theirs ??= { log: new Log(items[0].from), standing: this.#opened };
      for (const item of items) if (item.from !== item.to) this.#theirs.log.push(item);
      this.#joinIfThere();
    } else if (!this.#apply(items) && this.#role === "following") {
      this.#ask();
    }
  }

  get #opened() {
    return { state: OPEN, transport: "stream" };
  }

  #status({ name, detail, wait, transport }) {
    const state = name === "opened" ? OPEN : name === "error" ? CONNECTING : null;
    if (this.#theirs) {
      const before = this.#theirs.standing;
      this.#theirs.standing = { state: state ?? before.state, transport };
    }
    if (this.#role !== "following") return;
    this.#transport = transport;
    this.#hear(name, detail);
    if (wait !== undefined) this.#keepTime(wait);
  }

  /** A hidden owner's timers may be a minute late, messages are not: who is seen keeps the time for it. */
  #keepTime(ms) {
    if (this.#role !== "following" || !this.#isVisible) return;
    this.#do("timer", { name: "tick", ms: Math.round(ms + TICK_MS * (1 + this.random())) });
  }
}

// --- the shell ------------------------------------------------------------------------------------------------

const LISTENED = { window: ["pagehide", "pageshow", "online"], document: ["freeze", "resume", "visibilitychange"] };

function token() {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return btoa(String.fromCharCode(...bytes)).replaceAll("+", "-").replaceAll("/", "_").slice(0, 22);
}

/** Yield a body's parts as they come. */
async function* partsOf(body) {
  const reader = body.getReader();
  for (let part = await reader.read(); !part.done; part = await reader.read()) yield part.value;
}

function parsed(data) {
  try {
    return JSON.parse(data);
  } catch {
    return null;
  }
}

/**
 * An `EventSource` for this app's streams; see `client.d.ts` for its options and events.
 *
 * @example
 * const source = new PolledEventSource("/events/builds.42/");
 * source.onmessage = (event) => console.log(event.lastEventId, event.data);
 * source.addEventListener("gap", (event) => console.warn("lost", event.detail));
 */
export class PolledEventSource extends EventTarget {
  #url;
  #withCredentials;
  #maxEventLength;
  #options;
  #name;
  #member;
  #readyState = CONNECTING;
  #lastEventId;
  #isMuted = false; // closed by whoever made it: no more events
  #timers = new Map();
  #requests = new Map();
  #channel = null;
  #held = null;
  #handlers = new Map();
  #inputs = [];
  #isBusy = false;
  #steps = []; // what listeners have still to see
  #shown = Promise.resolve(); // that they have seen it
  #isShowing = false;

  /**
   * @param {string | URL} url
   * @param {object} [init] `PolledEventSourceInit` in client.d.ts
   */
  constructor(url, init) {
    super();
    const { withCredentials = false, shared = true, renew = null, pollUrl, ackUrl, ...limits } = init ?? {};
    this.#withCredentials = Boolean(withCredentials);
    this.#options = { renew, pollUrl, ackUrl };
    this.#maxEventLength = limits.maxEventLength ?? DEFAULTS.maxEventLength;
    const base = globalThis.document?.baseURI ?? globalThis.location?.href;
    let address;
    try {
      this.#url = new URL(url, base).href;
      address = this.#address(this.#url);
    } catch {
      throw new DOMException(`Not the address of a stream: ${url}`, "SyntaxError");
    }
    this.#lastEventId = address.cursor;
    const canShare = Boolean(globalThis.navigator?.locks && globalThis.BroadcastChannel);
    const group = typeof shared === "string" ? shared : "";
    this.#name = `sse_polling:${VERSION}:${Number(this.#withCredentials)}:${group}:${address.key}`;
    this.#member = new Member({
      ...Object.fromEntries(Object.entries(limits).filter(([, value]) => value !== undefined)),
      id: token(),
      address,
      cursor: address.cursor,
      shared: canShare && shared !== false,
      canRenew: typeof renew === "function",
      token,
      now: Date.now,
      random: Math.random,
    });
    for (const [place, types] of Object.entries(LISTENED)) {
      for (const type of types) globalThis[place]?.addEventListener(type, this);
    }
    if (globalThis.document?.hidden) this.#feed({ type: "visible", visible: false });
    // Not at once: whoever made it has listeners to add.
    queueMicrotask(() => this.#isMuted || this.#feed({ type: "start" }));
  }

  get url() {
    return this.#url;
  }

  get withCredentials() {
    return this.#withCredentials;
  }

  get readyState() {
    return this.#readyState;
  }

  /** The cursor: everything before it was delivered here. */
  get lastEventId() {
    return this.#lastEventId;
  }

  /** `stream` or `poll`: how the events come now. */
  get transport() {
    return this.#member.transport;
  }

  /** `owning`, `following`, `alone` …: what this tab is to the others that share. */
  get role() {
    return this.#member.role;
  }

  get onopen() {
    return this.#handler("open");
  }
  set onopen(value) {
    this.#setHandler("open", value);
  }
  get onmessage() {
    return this.#handler("message");
  }
  set onmessage(value) {
    this.#setHandler("message", value);
  }
  get onerror() {
    return this.#handler("error");
  }
  set onerror(value) {
    this.#setHandler("error", value);
  }

  close() {
    if (this.#isMuted) return;
    this.#isMuted = true;
    this.#readyState = CLOSED;
    this.#steps = [];
    this.#feed({ type: "close" });
    this.#unlisten();
  }

  /** What the page is told. */
  handleEvent(event) {
    if (event.type === "pagehide" || event.type === "freeze") this.#feed({ type: "away" });
    else if (event.type === "pageshow" || event.type === "resume") this.#feed({ type: "back" });
    else if (event.type === "online") this.#feed({ type: "online" });
    else this.#feed({ type: "visible", visible: !document.hidden });
  }

  #handler(type) {
    return this.#handlers.get(type)?.value ?? null;
  }

  #setHandler(type, value) {
    const before = this.#handlers.get(type);
    const isNew = typeof value === "function" || (typeof value === "object" && value !== null);
    if (before && isNew) {
      before.value = value; // it keeps its place among the listeners
      return;
    }
    if (before) this.removeEventListener(type, before.call);
    this.#handlers.delete(type);
    if (!isNew) return;
    const handler = {
      value,
      call: (event) => (typeof handler.value === "function" ? handler.value.call(this, event) : undefined),
    };
    this.#handlers.set(type, handler);
    this.addEventListener(type, handler.call);
  }

  #unlisten() {
    for (const [place, types] of Object.entries(LISTENED)) {
      for (const type of types) globalThis[place]?.removeEventListener(type, this);
    }
  }

  #address(url) {
    const { pollUrl, ackUrl } = this.#options;
    return new Address(url, { pollUrl, ackUrl, origin: globalThis.location?.origin });
  }

  /** Give the machine an input and do what it says; one at a time, in order. */
  #feed(input) {
    this.#inputs.push(input);
    if (this.#isBusy) return;
    this.#isBusy = true;
    try {
      while (this.#inputs.length) {
        for (const action of this.#member.handle(this.#inputs.shift())) this.#perform(action);
      }
    } finally {
      this.#isBusy = false;
    }
  }

  #perform(action) {
    switch (action.do) {
      case "deliver":
        return this.#deliver(action);
      case "dispatch": {
        const { name, detail } = action;
        return this.#show({ event: detail ? new CustomEvent(name, { detail }) : new Event(name) });
      }
      case "state":
        if (action.value === CLOSED) this.#unlisten();
        return this.#show({ readyState: action.value });
      case "timer":
        return this.#setTimer(action);
      case "clear":
        clearTimeout(this.#timers.get(action.name)?.handle);
        this.#timers.delete(action.name);
        return;
      case "due":
        for (const [name, { at }] of [...this.#timers]) if (at <= Date.now()) this.#ring(name);
        return;
      case "fetch":
        return void this.#fetch(action);
      case "abort":
        this.#requests.get(action.attempt)?.abort();
        this.#requests.delete(action.attempt);
        return;
      case "ack":
        return this.#ack(action);
      case "renew":
        return void this.#renew();
      case "listen":
        try {
          this.#channel = new BroadcastChannel(this.#name);
        } catch {
          return; // where nothing may be stored there may be none; each tab is alone then
        }
        this.#channel.onmessage = ({ data }) => this.#feed({ type: "message", message: data });
        return;
      case "unlisten":
        this.#channel?.close();
        this.#channel = null;
        return;
      case "post":
        return this.#channel?.postMessage(action.message);
      case "lock":
        return this.#lock(action.how);
      case "unlock":
        return this.#unlock();
    }
  }

  #deliver({ events, cursor }) {
    const { origin } = this.#member.address;
    for (const { type, data, lastEventId } of events) {
      const event = new MessageEvent(type, { data, lastEventId, origin });
      if (type === "gap" || type === "end") Object.defineProperty(event, "detail", { value: parsed(data) });
      this.#show({ event, lastEventId });
    }
    this.#show({ lastEventId: cursor });
  }

  /** Let listeners see a step, once they have seen those before it. */
  #show(step) {
    if (this.#isMuted) return;
    this.#steps.push(step);
    if (!this.#isShowing) this.#shown = this.#showAll();
  }

  /**
   * Show all steps, each event in a task of its own: what one listener awaits comes before the next event. What
   * stands before an event, as the state that it tells of, changes in its task.
   */
  async #showAll() {
    this.#isShowing = true;
    const { port1, port2 } = new MessageChannel(); // a timer would be slowed in a tab that is hidden
    await null; // for what belongs to this step
    while (this.#steps.length) {
      if (this.#steps.some((step) => step.event)) {
        await new Promise((resolve) => {
          port1.onmessage = resolve;
          port2.postMessage(null);
        });
      }
      for (let isShown = false; !isShown && this.#steps.length; ) {
        const { event, lastEventId, readyState } = this.#steps.shift();
        this.#lastEventId = lastEventId ?? this.#lastEventId;
        this.#readyState = readyState ?? this.#readyState;
        isShown = Boolean(event);
        if (event) this.dispatchEvent(event);
      }
    }
    port1.close();
    this.#isShowing = false;
  }

  #setTimer({ name, ms }) {
    clearTimeout(this.#timers.get(name)?.handle);
    const handle = setTimeout(() => this.#ring(name), Math.min(ms, LONGEST_TIMER_MS));
    this.#timers.set(name, { at: Date.now() + ms, handle });
  }

  #ring(name) {
    clearTimeout(this.#timers.get(name)?.handle);
    this.#timers.delete(name);
    this.#feed({ type: "timer", name });
  }

  async #fetch({ attempt, url, headers, as }) {
    const controller = new AbortController();
    this.#requests.set(attempt, controller);
    const feed = (input) => controller.signal.aborted || this.#feed({ ...input, attempt });
    try {
      const response = await fetch(url, {
        headers,
        cache: "no-store",
        credentials: this.#withCredentials ? "include" : "same-origin",
        signal: controller.signal,
      });
      const header = (name) => response.headers.get(name);
      feed({
        type: "response",
        status: response.status,
        headers: {
          contentType: header("Content-Type"),
          retryAfter: header("Retry-After"),
          link: header("Link"),
          stream: header("X-SSE-Stream"),
        },
      });
      if (controller.signal.aborted) return;
      const decoder = new TextDecoder();
      const room = Math.max(ANSWER_LENGTH, ANSWER_EVENTS * this.#maxEventLength);
      let text = "";
      for await (const chunk of partsOf(response.body)) {
        feed({ type: "bytes", chunk });
        if (controller.signal.aborted) return;
        if (as === "poll") text += decoder.decode(chunk, { stream: true });
        if (text.length > room) throw new RangeError(`an answer of more than ${room} characters`);
        await this.#shown; // who reads no faster than it is heard has no queue that grows
        if (controller.signal.aborted) return;
      }
      feed(as === "poll" ? { type: "body", text: text + decoder.decode() } : { type: "end" });
    } catch {
      feed({ type: "error" });
    } finally {
      if (this.#requests.get(attempt) === controller) this.#requests.delete(attempt);
    }
  }

  #ack({ url, body }) {
    const headers = { "Content-Type": "application/x-www-form-urlencoded" };
    const credentials = this.#withCredentials ? "include" : "same-origin";
    // A plain form, which needs no preflight; it must outlive the page.
    fetch(url, { method: "POST", body, headers, credentials, mode: "no-cors", keepalive: true }).catch(() => {});
  }

  async #renew() {
    let address;
    try {
      const url = await this.#options.renew();
      address = this.#address(new URL(url, globalThis.document?.baseURI ?? this.#url).href);
    } catch {
      this.#feed({ type: "renewFailed" });
      return;
    }
    this.#feed({ type: "renewed", address });
  }

  #lock(how) {
    this.#unlock();
    const held = { controller: new AbortController(), release: null, isDone: false };
    this.#held = held;
    const options = { try: { ifAvailable: true }, steal: { steal: true }, queue: { signal: held.controller.signal } };
    const had = (lock) => {
      if (held.isDone) return undefined;
      if (!lock) {
        this.#feed({ type: "lock", got: false });
        return undefined;
      }
      const kept = new Promise((resolve) => {
        held.release = resolve;
      });
      this.#feed({ type: "lock", got: true });
      return kept;
    };
    navigator.locks.request(this.#name, options[how], had).catch(() => {
      if (held.isDone) return;
      held.isDone = true;
      this.#feed(held.release ? { type: "lost" } : { type: "lock", got: false });
    });
  }

  #unlock() {
    const held = this.#held;
    this.#held = null;
    if (!held) return;
    held.isDone = true;
    held.controller.abort();
    held.release?.();
  }
}

for (const holder of [PolledEventSource, PolledEventSource.prototype]) {
  for (const [name, value] of Object.entries({ CONNECTING, OPEN, CLOSED })) {
    Object.defineProperty(holder, name, { value, enumerable: true });
  }
}
