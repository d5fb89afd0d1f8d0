// A site, its server and its tabs, in virtual time: what browsers promise and no more.
//
// Messages between two tabs keep their order and may be late; between different senders there is none. A lock is
// granted some time after it is free. A tab may close, crash, hang, or be frozen and come back.

import { Address, Member, bytes } from "./client.mjs";

const PAGE = "http://site.test";

export class World {
  now = 1_000_000;
  #queue = [];
  #count = 0;
  tabs = [];
  messages = 0;

  constructor({ random, channels = ["a"], options = {} }) {
    this.random = random;
    this.channels = channels;
    this.options = options;
    this.server = new Server(this);
    this.lock = new Lock(this);
  }

  between(low, high) {
    return low + this.random() * (high - low);
  }

  after(ms, call) {
    const entry = { at: this.now + ms, count: (this.#count += 1), call };
    // Sorted from the end: what comes first is taken off it.
    let low = 0;
    let high = this.#queue.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      const other = this.#queue[middle];
      if (other.at > entry.at || (other.at === entry.at && other.count > entry.count)) low = middle + 1;
      else high = middle;
    }
    this.#queue.splice(low, 0, entry);
    return entry;
  }

  run(ms) {
    const end = this.now + ms;
    while (this.#queue.length && this.#queue.at(-1).at <= end) {
      const { at, call } = this.#queue.pop();
      this.now = Math.max(this.now, at);
      call();
    }
    this.now = end;
  }

  open(cursor = "") {
    const tab = new Tab(this, cursor, this.tabs.length);
    this.tabs.push(tab);
    return tab;
  }

  get living() {
    return this.tabs.filter((tab) => !tab.isDead);
  }

  post(sender, message) {
    this.messages += 1;
    const copy = JSON.stringify(message);
    for (const tab of this.tabs) {
      if (tab === sender || !tab.isListening) continue;
      // A crash may come between a message's way to one tab and to another.
      const at = Math.max(sender.sentTo.get(tab) ?? 0, this.now + this.between(0, 20));
      sender.sentTo.set(tab, at);
      const { listening } = tab;
      this.after(at - this.now, () => {
        if (sender.lost.has(tab)) return;
        tab.give({ type: "message", message: JSON.parse(copy) }, () => tab.listening === listening);
      });
    }
  }
}

class Lock {
  holder = null;
  queue = [];

  constructor(world) {
    this.world = world;
  }

  ask(tab, how) {
    this.leave(tab);
    const request = { tab, how };
    tab.request = request;
    this.world.after(this.world.between(0, 10), () => {
      if (tab.request !== request) return;
      if (how === "steal" && this.holder) {
        const { tab: robbed, request: old } = this.holder;
        this.holder = null;
        robbed.give({ type: "lost" }, () => robbed.request === old);
      }
      if (!this.holder && (how !== "try" || !this.queue.length)) this.#grant(request);
      else if (how === "try") tab.give({ type: "lock", got: false }, () => tab.request === request);
      else this.queue.push(request);
    });
  }

  #grant(request) {
    this.holder = { tab: request.tab, request };
    request.tab.give({ type: "lock", got: true }, () => request.tab.request === request);
  }

  /** Give back, or do not want any more. */
  leave(tab) {
    tab.request = null;
    this.queue = this.queue.filter((request) => request.tab !== tab);
    if (this.holder?.tab !== tab) return;
    this.holder = null;
    this.world.after(this.world.between(0, 10), () => {
      if (!this.holder && this.queue.length) this.#grant(this.queue.shift());
    });
  }
}

class Server {
  heads = {};
  streams = new Set();
  asked = 0;
  trouble = 0; // how often an answer is none
  end = null; // the cursor at the end of everything, once that has come
  denied = null; // a tab without the right
  polite = 0; // how often it is refused politely

  constructor(world) {
    this.world = world;
    for (const channel of world.channels) this.heads[channel] = 0;
  }

  publish(count = 1) {
    for (let index = 0; index < count; index += 1) {
      const channel = this.world.channels[Math.floor(this.world.random() * this.world.channels.length)];
      this.heads[channel] += 1;
    }
    for (const stream of this.streams) {
      if (stream.request.isOver) this.streams.delete(stream);
      else stream.wake();
    }
  }

  cursor(places) {
    return this.world.channels.map((channel) => `${channel}.${places[channel]}`).join("_");
  }

  places(cursor) {
    if (!cursor) return { ...this.heads };
    if (cursor === "earliest") return Object.fromEntries(this.world.channels.map((channel) => [channel, 0]));
    return Object.fromEntries(cursor.split("_").map((part) => [part.split(".")[0], Number(part.split(".")[1])]));
  }

  answer(tab, { attempt, url, headers, as }) {
    this.asked += 1;
    const { world } = this;
    const cursor = headers["Last-Event-ID"] ?? new URL(url).searchParams.get("last_event_id") ?? "";
    const request = { tab, attempt, isOver: false, give: (input) => tab.give({ ...input, attempt }, () => !request.isOver) };
    tab.requests.set(attempt, request);
    world.after(world.between(1, 30), () => {
      if (request.isOver) return;
      const draw = world.random();
      if (draw < this.trouble / 2) return request.give({ type: "error" });
      if (draw < this.trouble) return request.give({ type: "response", status: 503, headers: { retryAfter: "1" } });
      if (this.denied === tab) return request.give({ type: "response", status: 403 });
      if (this.end === cursor) return request.give({ type: "response", status: 204 });
      if (this.end) return this.#finish(request, cursor);
      if (as === "poll") return this.#poll(request, cursor);
      if (draw > 1 - this.polite) return this.#refuse(request);
      this.streams.add(new Stream(this, request, this.places(cursor)));
    });
  }

  #finish(request, cursor) {
    request.give({ type: "response", status: 200, headers: { contentType: "text/event-stream", stream: "s" } });
    request.give({ type: "bytes", chunk: bytes(`retry: 300\nid: ${cursor}\n\nid: ${this.end}\nevent: end\ndata: {}\n\n`) });
    request.give({ type: "end" });
  }

  #refuse(request) {
    request.give({ type: "response", status: 200, headers: { contentType: "text/event-stream" } });
    request.give({ type: "bytes", chunk: bytes("retry: 2000\n\n") });
    request.give({ type: "end" });
  }

  #poll(request, cursor) {
    const places = this.places(cursor);
    const events = [];
    for (const channel of this.world.channels) {
      for (let left = 3; left && places[channel] < this.heads[channel]; left -= 1) {
        places[channel] += 1;
        const name = `${channel}${places[channel]}`;
        events.push({ channel, id: `${channel}.${places[channel]}`, event: "message", data: name });
      }
    }
    request.give({ type: "response", status: 200, headers: { contentType: "application/json" } });
    const answer = { events, last_event_id: this.cursor(places), retry: 200, end: false };
    request.give({ type: "body", text: JSON.stringify(answer) });
  }
}

/** One burst: what follows the places, channels in any order, until it is long enough. */
class Stream {
  constructor(server, request, places) {
    this.server = server;
    this.world = server.world;
    this.request = request;
    this.places = places;
    this.left = 20;
    this.at = 0;
    this.isPlanned = false;
    this.hasBegun = false;
    this.tell({ type: "response", status: 200, headers: { contentType: "text/event-stream", stream: "s" } });
    this.say(`retry: 300\nid: ${server.cursor(places)}\n\n`);
    this.world.after(this.world.between(500, 3000), () => this.end());
    this.wake();
  }

  wake() {
    if (this.isPlanned) return;
    this.isPlanned = true;
    this.world.after(this.world.between(0, 15), () => this.step());
  }

  step() {
    this.isPlanned = false;
    this.hasBegun = true;
    if (this.isOver) return;
    let text = "";
    for (let count = 1 + Math.floor(this.world.random() * 4); count && this.left; count -= 1) {
      const behind = this.world.channels.filter((channel) => this.places[channel] < this.server.heads[channel]);
      if (!behind.length) break;
      const channel = behind[Math.floor(this.world.random() * behind.length)];
      this.places[channel] += 1;
      this.left -= 1;
      text += `id: ${this.server.cursor(this.places)}\ndata: ${channel}${this.places[channel]}\n\n`;
    }
    if (text) {
      this.say(text);
      this.wake();
    }
    if (!this.left) this.end();
  }

  get isOver() {
    return this.request.isOver || (this.hasBegun && !this.server.streams.has(this));
  }

  say(text) {
    const all = bytes(text);
    const cut = Math.floor(this.world.random() * all.length);
    this.tell({ type: "bytes", chunk: all.slice(0, cut) });
    this.tell({ type: "bytes", chunk: all.slice(cut) });
  }

  tell(input) {
    this.at = Math.max(this.at, this.world.now + this.world.between(0, 10));
    this.world.after(this.at - this.world.now, () => this.request.give(input));
  }

  end() {
    if (!this.server.streams.delete(this)) return;
    if (this.world.random() < this.server.trouble) return this.tell({ type: "error" });
    this.say("retry: 300\n\n");
    this.tell({ type: "end" });
  }
}

export class Tab {
  isDead = false;
  isListening = false;
  isThrottled = false; // hidden for long: timers run once a minute
  listening = 0;
  request = null;
  sentTo = new Map();
  lost = new Set(); // tabs that do not get what is on its way
  requests = new Map();
  got = [];
  seen = []; // other events
  #timers = new Map();
  #waiting = null; // while it hangs
  #inputs = [];
  #isBusy = false;

  constructor(world, cursor, number) {
    this.world = world;
    this.start = cursor || null;
    const several = world.channels.length > 1;
    const path = several ? `/events/?${world.channels.map((name) => `channel=${name}`).join("&")}` : "/events/a/";
    this.member = new Member({
      id: `tab${number}`,
      address: new Address(PAGE + path, { origin: PAGE }),
      cursor,
      shared: true,
      token: () => "t".repeat(22),
      now: () => world.now,
      random: world.random,
      ...world.options,
    });
    this.give({ type: "start" });
  }

  /** Tell it something, unless that is not true any more when its turn comes. */
  give(input, isTrue = () => true) {
    if (this.isDead) return;
    if (this.#waiting) {
      this.#waiting.push([input, isTrue]);
      return;
    }
    if (!isTrue()) return;
    this.#inputs.push(input);
    if (this.#isBusy) return;
    this.#isBusy = true;
    while (this.#inputs.length) for (const action of this.member.handle(this.#inputs.shift())) this.#perform(action);
    this.#isBusy = false;
  }

  /** Do nothing for a while, as with an alert() open. */
  hang(ms) {
    if (this.#waiting) return;
    this.#waiting = [];
    this.world.after(ms, () => {
      const waiting = this.#waiting;
      this.#waiting = null;
      for (const [input, isTrue] of waiting) this.give(input, isTrue);
    });
  }

  close() {
    if (this.#waiting) return this.crash(); // the browser ends what does not answer
    this.give({ type: "close" });
    this.isDead = true;
  }

  crash() {
    this.isDead = true;
    for (const tab of this.world.tabs) if (this.world.random() < 0.3) this.lost.add(tab);
    this.isListening = false;
    for (const request of this.requests.values()) request.isOver = true;
    this.world.lock.leave(this);
  }

  get connections() {
    return [...this.requests.values()].filter((request) => !request.isOver).length;
  }

  #perform(action) {
    const { world } = this;
    switch (action.do) {
      case "deliver":
        if (this.start === null && action.cursor) this.start = this.got.length ? this.start : action.cursor;
        // A long-poll's data of several channels is wrapped, as it is on a stream.
        this.got.push(...action.events.map(({ data }) => (data.startsWith('{"channel') ? JSON.parse(data).data : data)));
        this.cursor = action.cursor;
        return;
      case "dispatch":
        this.seen.push(action.name);
        return;
      case "timer": {
        const timer = { at: world.now + action.ms };
        this.#timers.set(action.name, timer);
        const ms = this.isThrottled ? Math.ceil(action.ms / 60_000) * 60_000 : action.ms;
        world.after(ms, () => this.#ring(action.name, timer));
        return;
      }
      case "clear":
        this.#timers.delete(action.name);
        return;
      case "due":
        for (const [name, timer] of [...this.#timers]) if (timer.at <= world.now) this.#ring(name, timer);
        return;
      case "fetch":
        return world.server.answer(this, action);
      case "abort": {
        const request = this.requests.get(action.attempt);
        if (request) request.isOver = true;
        return;
      }
      case "post":
        if (this.isListening) world.post(this, action.message);
        return;
      case "listen":
        this.isListening = true;
        this.listening += 1;
        return;
      case "unlisten":
        this.isListening = false;
        this.listening += 1;
        return;
      case "lock":
        return world.lock.ask(this, action.how);
      case "unlock":
        return world.lock.leave(this);
    }
  }

  #ring(name, timer) {
    if (this.#timers.get(name) !== timer) return;
    this.#timers.delete(name);
    this.give({ type: "timer", name });
  }
}
