// One reader of the server, without a server: answers in, actions out.

import assert from "node:assert/strict";
import { test } from "node:test";

import { Address, Connection, bytes, randomFrom, readAlternate, readAnswer, readRetryAfter } from "./client.mjs";

const PAGE = "http://site.test";
const CLIENT = "c".repeat(22);
const STREAM = { contentType: "text/event-stream", stream: "s".repeat(24) };
const JSON_TYPE = { contentType: "application/json" };
const OPENING = "retry: 700\nid: a.1.x\n\n";

/** A connection, its clock, and what it did. */
class Driven {
  constructor({ url = `${PAGE}/events/log/`, cursor, random = () => 0.5, ...options } = {}) {
    this.clock = 1_000_000;
    this.timers = new Map();
    this.did = [];
    const address = new Address(url, { origin: PAGE });
    this.connection = new Connection({
      address,
      cursor: cursor ?? address.cursor,
      client: CLIENT,
      now: () => this.clock,
      random,
      ...options,
    });
    this.give({ type: "start" });
  }

  give(input) {
    const actions = this.connection.handle({ attempt: this.fetched?.attempt, ...input });
    for (const action of actions) {
      if (action.do === "timer") this.timers.set(action.name, this.clock + action.ms);
      if (action.do === "clear") this.timers.delete(action.name);
      if (action.do === "fetch") this.fetched = action;
    }
    this.did.push(...actions);
    return actions;
  }

  /** Let time pass to a timer. */
  until(name) {
    assert.ok(this.timers.has(name), `${name} of ${[...this.timers.keys()]}`);
    this.clock = this.timers.get(name);
    this.timers.delete(name);
    return this.give({ type: "timer", name });
  }

  wait(name) {
    return this.timers.get(name) - this.clock;
  }

  answer(status, headers = {}) {
    return this.give({ type: "response", status, headers });
  }

  /** A whole stream of so much text. */
  stream(text, headers = STREAM) {
    this.answer(200, headers);
    this.give({ type: "bytes", chunk: bytes(text) });
    return this.give({ type: "end" });
  }

  poll(answer) {
    this.answer(200, JSON_TYPE);
    return this.give({ type: "body", text: JSON.stringify(answer) });
  }

  all(name) {
    return this.did.filter((action) => action.do === name);
  }

  get events() {
    return this.all("items").flatMap(({ items }) => items.flatMap(({ events }) => events));
  }

  get url() {
    return new URL(this.fetched.url);
  }
}

// Addresses

for (const [url, expected] of Object.entries({
  "/events/log/": { stream: "/events/log/", poll: "/events/log/poll/", ack: "/events/ack/", several: false, single: true },
  "/events/log/?busy=stream&client=x&last_event_id=a.1.b": { stream: "/events/log/", cursor: "a.1.b" },
  "/events/log/?signature=s%3A1": { stream: "/events/log/?signature=s%3A1", key: "/events/log/" },
  "/events/?channel=b&channel=a&channel=b": {
    stream: "/events/?channel=a&channel=b", poll: "/events/poll/?channel=a&channel=b", ack: "/events/ack/", several: true, single: false,
  },
  "/events/?channel=a": { several: true, single: true },
  "/log/": { poll: "/log/poll/", ack: "/ack/" },
  "/?channel=a": { poll: "/poll/?channel=a", ack: "/ack/" },
})) {
  test(`what belongs to ${url}`, () => {
    const address = new Address(PAGE + url, { origin: PAGE });
    for (const [name, value] of Object.entries(expected)) {
      const found = address[name];
      assert.equal(typeof found === "string" ? found.replace(PAGE, "") : found, value, name);
    }
  });
}

test("poll and ack may be elsewhere", () => {
  const address = new Address(`${PAGE}/s/log`, { pollUrl: "/p/log", ackUrl: "/a", origin: PAGE });
  assert.deepEqual([address.poll, address.ack], [`${PAGE}/p/log`, `${PAGE}/a`]);
});

// Asking

test("each request names the client, asks for polite refusals, and brings the cursor in the header", () => {
  const driven = new Driven({ url: `${PAGE}/events/log/?client=old&last_event_id=a.1.x` });
  assert.equal(driven.url.search, `?busy=stream&client=${CLIENT}`);
  assert.deepEqual(driven.fetched.headers, { Accept: "text/event-stream", "Last-Event-ID": "a.1.x" });
});

test("at another origin the cursor is in the address, which needs no preflight", () => {
  const driven = new Driven({ url: "http://other.test/events/log/?last_event_id=a.1.x" });
  assert.deepEqual(driven.fetched.headers, { Accept: "text/event-stream" });
  assert.equal(driven.url.searchParams.get("last_event_id"), "a.1.x");
});

test("without a cursor none is sent, and one that no header takes is in the address", () => {
  assert.deepEqual(Object.keys(new Driven().fetched.headers), ["Accept"]);
  assert.equal(new Driven({ cursor: "é" }).url.searchParams.get("last_event_id"), "é");
});

// Bursts

test("a planned end is a burst and no error; the next request is exactly when the server said last", () => {
  const driven = new Driven();
  driven.stream(`${OPENING}id: a.2.y\ndata: one\n\n: \nid: a.3.z\nevent: log\ndata: two\n\nretry: 1234\n\n`);
  assert.deepEqual(driven.all("burst").map(({ detail }) => detail), [{ events: 2, retry: 1234, transport: "stream", draining: false }]);
  assert.deepEqual(driven.all("error"), []);
  assert.equal(driven.wait("reconnect"), 1234);
  driven.until("reconnect");
  assert.equal(driven.fetched.headers["Last-Event-ID"], "a.3.z");
  assert.deepEqual(driven.events, [
    { type: "message", data: "one", lastEventId: "a.2.y" },
    { type: "log", data: "two", lastEventId: "a.3.z" },
  ]);
});

test("an opening moves the cursor in silence, also when the stream is cut right after", () => {
  const driven = new Driven();
  driven.answer(200, STREAM);
  driven.give({ type: "bytes", chunk: bytes(OPENING) });
  driven.give({ type: "error" });
  assert.deepEqual(driven.events, []);
  driven.until("reconnect");
  assert.equal(driven.fetched.headers["Last-Event-ID"], "a.1.x");
});

test("a stream that ends in mid-block was cut: an error, and the cursor stays", () => {
  const driven = new Driven();
  driven.stream(`${OPENING}id: a.2.y\ndata: one`);
  assert.equal(driven.all("error")[0].detail.reason, "cut");
  assert.equal(driven.connection.cursor, "a.1.x");
});

test("an empty answer is no burst", () => {
  const driven = new Driven();
  driven.stream("");
  assert.equal(driven.all("error")[0].detail.reason, "cut");
});

test("close is acked at once, and the client comes back elsewhere, not all at one time", () => {
  for (const draw of [0, 0.25, 1]) {
    const driven = new Driven({ random: () => draw });
    driven.answer(200, STREAM);
    driven.give({ type: "bytes", chunk: bytes(`${OPENING}event: close\ndata: pool_draining\n\nretry: 800\n\n`) });
    assert.deepEqual(driven.all("ack"), [{ do: "ack", url: `${PAGE}/events/ack/`, body: `client=${CLIENT}` }]);
    driven.give({ type: "end" });
    assert.equal(driven.wait("reconnect"), 800 * draw);
    assert.deepEqual(driven.all("burst").map(({ detail }) => [detail.events, detail.draining]), [[0, true]]);
    assert.deepEqual(driven.all("error"), []);
  }
});

test("a server that never ends what it closed is left", () => {
  const driven = new Driven();
  driven.answer(200, STREAM);
  driven.give({ type: "bytes", chunk: bytes(`${OPENING}event: close\ndata: pool_draining\n\n`) });
  const did = driven.until("goodbye");
  assert.ok(did.some((action) => action.do === "abort"));
  assert.equal(driven.all("error").length, 0);
});

test("a server that is gone after its close was acked is no error", () => {
  const driven = new Driven();
  driven.answer(200, STREAM);
  driven.give({ type: "bytes", chunk: bytes(`${OPENING}event: close\ndata: pool_draining\n\n`) });
  driven.give({ type: "error" });
  assert.deepEqual([driven.all("error"), driven.all("burst").map(({ detail }) => detail.draining)], [[], [true]]);
  assert.ok(driven.wait("reconnect") <= 700);
});

test("silence longer than a burst and a heartbeat may last is an error, bytes of any kind are none", () => {
  const driven = new Driven({ silenceMs: 1000 });
  driven.answer(200, STREAM);
  for (let count = 0; count < 5; count += 1) {
    driven.clock += 900;
    driven.give({ type: "bytes", chunk: bytes(":\n") });
  }
  assert.equal(driven.wait("silence"), 1000);
  const did = driven.until("silence");
  assert.ok(did.some((action) => action.do === "abort"));
  assert.equal(driven.all("error")[0].detail.reason, "silence");
});

test("a machine that slept finds the silence when it is looked at", () => {
  const driven = new Driven({ silenceMs: 1000 });
  driven.answer(200, STREAM);
  driven.give({ type: "visible" });
  assert.equal(driven.all("error").length, 0);
  driven.clock += 5000;
  driven.give({ type: "visible" });
  assert.equal(driven.all("error")[0].detail.reason, "silence");
});

test("so it does when the network is back", () => {
  const driven = new Driven({ silenceMs: 1000 });
  driven.answer(200, STREAM);
  assert.deepEqual(driven.give({ type: "online" }), []);
  driven.clock += 5000;
  assert.ok(driven.give({ type: "online" }).some((action) => action.do === "fetch"));
  assert.equal(driven.all("error")[0].detail.reason, "silence");
});

test("what belongs to another attempt changes nothing", () => {
  const driven = new Driven();
  const { attempt } = driven.fetched;
  driven.stream(`${OPENING}retry: 1\n\n`);
  driven.until("reconnect");
  for (const type of ["response", "bytes", "end", "error", "body"]) {
    assert.deepEqual(driven.connection.handle({ type, attempt, status: 500, chunk: bytes("x") }), []);
  }
});

// Ends

test("the end of the only channel is the end", () => {
  const driven = new Driven();
  driven.answer(200, STREAM);
  driven.give({ type: "bytes", chunk: bytes(`${OPENING}id: a.2.~z\nevent: end\ndata: {}\n\n`) });
  assert.equal(driven.all("over").length, 1);
  assert.equal(driven.events.length, 1);
  assert.deepEqual([...driven.timers.keys()], []);
  assert.deepEqual(driven.give({ type: "start" }), []);
});

test("of several channels 204 says that all have ended", () => {
  const driven = new Driven({ url: `${PAGE}/events/?channel=a&channel=b` });
  driven.stream(`${OPENING}id: a.2.~z\nevent: end\ndata: {}\n\nretry: 5\n\n`);
  assert.equal(driven.all("over").length, 0);
  driven.until("reconnect");
  driven.answer(204);
  assert.equal(driven.all("over").length, 1);
});

// Errors

const FATAL = [429, 500, 502, 503, 504];
for (const status of FATAL) {
  test(`${status} is followed by a long-poll`, () => {
    const driven = new Driven({ cursor: "a.1.x" });
    driven.answer(status);
    assert.deepEqual(driven.all("error").map(({ detail }) => [detail.status, detail.closed]), [[status, false]]);
    driven.until("reconnect");
    assert.equal(driven.fetched.as, "poll");
    assert.equal(driven.url.pathname, "/events/log/poll/");
    assert.deepEqual(driven.fetched.headers, { Accept: "application/json", "Last-Event-ID": "a.1.x" });
  });
}

test("a 503 says where to poll, and that is done at once, since it is no place that is known to fail", () => {
  const driven = new Driven();
  driven.answer(503, { retryAfter: "30", link: '<poll/?busy=stream&x=1>; rel="alternate"' });
  assert.ok(driven.wait("reconnect") <= 1000);
  driven.until("reconnect");
  assert.equal(driven.url.pathname, "/events/log/poll/");
  assert.equal(driven.url.searchParams.get("x"), "1");
});

test("Retry-After is kept to, in seconds and as a date", () => {
  for (const [value, least] of [["7", 7000], [new Date(1_000_000 + 9000).toUTCString(), 9000]]) {
    for (const draw of [0, 1]) {
      const driven = new Driven({ random: () => draw });
      driven.answer(429, { retryAfter: value });
      assert.ok(driven.wait("reconnect") >= least && driven.wait("reconnect") <= least + 1000, value);
    }
  }
});

test("Retry-After: 0, or a date that this clock has passed, is no leave to ask for streams without a pause, nor for ever", () => {
  for (const value of ["0", new Date(0).toUTCString()]) {
    for (const link of [null, '<poll/>; rel="alternate"']) {
      const driven = new Driven({ random: () => 1 });
      const kinds = [];
      const waits = [];
      for (let count = 0; count < 16; count += 1) {
        kinds.push(driven.fetched.as);
        driven.answer(503, { retryAfter: value, link: driven.fetched.as === "stream" ? link : null });
        waits.push(driven.wait("reconnect"));
        driven.until("reconnect");
      }
      assert.deepEqual(kinds.slice(0, 2), ["stream", "poll"], `${value} ${link}`);
      assert.ok(waits.at(-1) + waits.at(-2) >= 30_000, `${value} ${link} ${waits}`);
    }
  }
});

test("a network that fails several times is tried by long-poll; errors back off with full jitter", () => {
  const driven = new Driven({ random: () => 1 });
  const waits = [];
  const kinds = [];
  for (let count = 0; count < 9; count += 1) {
    kinds.push(driven.fetched.as);
    driven.give({ type: "error" });
    waits.push(driven.wait("reconnect"));
    driven.until("reconnect");
  }
  assert.deepEqual(waits.slice(0, 6), [1000, 2000, 4000, 8000, 16_000, 32_000]);
  assert.deepEqual(kinds.slice(0, 4), ["stream", "stream", "stream", "poll"]);
  assert.ok(Math.max(...waits) <= 60_000);
  assert.ok(kinds.slice(4).includes("stream"), "it goes on probing");
  const none = new Driven({ random: () => 0 });
  none.give({ type: "error" });
  assert.equal(none.wait("reconnect"), 0);
});

test("streams that open and never bring anything have failed as well", () => {
  const driven = new Driven({ random: () => 1, cursor: "a.1.x" });
  const kinds = [];
  const waits = [];
  for (let count = 0; count < 5; count += 1) {
    kinds.push(driven.fetched.as);
    if (driven.fetched.as === "poll") break;
    driven.answer(200, STREAM);
    driven.give({ type: "bytes", chunk: bytes(OPENING) });
    driven.give({ type: "error" });
    waits.push(driven.wait("reconnect"));
    driven.until("reconnect");
  }
  assert.deepEqual([kinds, waits], [["stream", "stream", "stream", "poll"], [1000, 2000, 4000]]);
  // The probe, too: it is over once it has brought something.
  driven.poll({ events: [], last_event_id: "a.1.x", retry: 40_000, end: false });
  driven.until("reconnect");
  assert.equal(driven.fetched.as, "stream");
  driven.answer(200, STREAM);
  driven.give({ type: "bytes", chunk: bytes(OPENING) });
  driven.give({ type: "error" });
  assert.equal(driven.all("error").length, 3);
  driven.until("reconnect");
  assert.equal(driven.fetched.as, "poll");
});

test("what works once ends the backing off", () => {
  const driven = new Driven({ random: () => 1 });
  driven.give({ type: "error" });
  driven.until("reconnect");
  driven.stream(`${OPENING}retry: 100\n\n`);
  driven.until("reconnect");
  driven.give({ type: "error" });
  assert.equal(driven.wait("reconnect"), 1000);
});

test("a server that asked for a long wait is not asked sooner for having failed", () => {
  const driven = new Driven({ random: () => 1 });
  driven.answer(200, STREAM);
  driven.give({ type: "bytes", chunk: bytes("retry: 20000\n\n") });
  driven.give({ type: "error" });
  assert.equal(driven.wait("reconnect"), 20_000);
});

test("the network's return ends a wait for an error, and none that the server asked for", () => {
  const driven = new Driven();
  driven.give({ type: "error" });
  assert.ok(driven.give({ type: "online" }).some((action) => action.do === "fetch"));
  driven.stream(`${OPENING}retry: 100\n\n`);
  assert.deepEqual(driven.give({ type: "online" }), []);
});

test("another network may let through what the one before did not: its return tries a stream again", () => {
  const driven = new Driven();
  for (let count = 0; count < 4; count += 1) {
    driven.give({ type: "error" });
    driven.until("reconnect");
  }
  assert.equal(driven.fetched.as, "poll");
  driven.give({ type: "error" });
  driven.give({ type: "online" });
  assert.equal(driven.fetched.as, "stream");
});

test("nor one after an answer that was an error, whether or not it said how long", () => {
  for (const [status, headers] of [[503, { retryAfter: "30" }], [502, {}]]) {
    const driven = new Driven();
    driven.answer(status, headers);
    assert.deepEqual(driven.give({ type: "online" }), []);
  }
  const driven = new Driven({ canRenew: true });
  driven.answer(403);
  driven.give({ type: "renewed", address: driven.connection.address });
  driven.answer(403);
  assert.ok(driven.timers.has("renew"));
  assert.deepEqual(driven.give({ type: "online" }), []);
});

test("a page instead of a stream is an error like others", () => {
  const driven = new Driven();
  driven.answer(200, { contentType: "text/html; charset=utf-8" });
  assert.deepEqual(driven.all("error").map(({ detail }) => [detail.reason, detail.closed]), [["type", false]]);
});

test("an event that is longer than the client takes closes it in words", () => {
  const driven = new Driven({ maxEventLength: 50 });
  driven.answer(200, STREAM);
  driven.give({ type: "bytes", chunk: bytes(`${OPENING}id: a.2.y\ndata: a\n\ndata: ${"x".repeat(60)}`) });
  assert.equal(driven.events.length, 1);
  assert.equal(driven.all("closed")[0].detail.reason, "length");
});

// Refusals

test("a polite refusal is followed by long-polls, and by a stream once its wait is over", () => {
  const driven = new Driven();
  driven.stream("retry: 5000\nid: a.1.x\n\n", { contentType: "text/event-stream" });
  assert.deepEqual([driven.all("error"), driven.all("burst")], [[], []]);
  assert.ok(driven.wait("reconnect") <= 1000);
  driven.until("reconnect");
  assert.equal(driven.fetched.as, "poll");
  let polls = 0;
  for (; driven.fetched.as === "poll"; polls += 1) {
    driven.poll({ events: [], last_event_id: "a.1.x", retry: 1000, end: false });
    assert.equal(driven.wait("reconnect"), 1000);
    driven.until("reconnect");
  }
  assert.ok(polls >= 4 && polls <= 6, polls);
  driven.stream(`${OPENING}id: a.2.y\ndata: one\n\nretry: 10\n\n`);
  driven.until("reconnect");
  assert.equal(driven.fetched.as, "stream");
});

test("a refusal that primes its clients is one, too", () => {
  const driven = new Driven();
  driven.stream("retry: 5000\nid: a.1.x\ndata:\n\n", { contentType: "text/event-stream" });
  assert.deepEqual(driven.events, [{ type: "message", data: "", lastEventId: "a.1.x" }]);
  driven.until("reconnect");
  assert.equal(driven.fetched.as, "poll");
});

test("a real burst without events is no refusal, with or without its name", () => {
  for (const headers of [STREAM, { contentType: "text/event-stream" }]) {
    const driven = new Driven();
    driven.stream(`${OPENING}retry: 10\n\n`, headers);
    driven.until("reconnect");
    assert.equal(driven.fetched.as, "stream");
  }
});

test("a probe that fails is no error, and the next one comes later", () => {
  const driven = new Driven();
  driven.answer(502);
  driven.until("reconnect");
  const probes = [];
  for (let count = 0; probes.length < 4; count += 1) {
    assert.ok(count < 5000);
    if (driven.fetched.as === "poll") driven.poll({ events: [], last_event_id: "a.1.x", retry: 1000, end: false });
    else {
      probes.push(driven.clock);
      driven.answer(502);
    }
    driven.until("reconnect");
  }
  assert.equal(driven.all("error").length, 1);
  const waits = probes.slice(1).map((at, index) => at - probes[index]);
  assert.ok(waits[0] >= 59_000 && waits[1] >= 119_000 && waits[2] >= 239_000, waits);
});

// Long-polls

function polling(options) {
  const driven = new Driven({ cursor: "a.1.x", ...options });
  driven.answer(502);
  driven.until("reconnect");
  return driven;
}

test("a long-poll's events have the ids of a stream's", () => {
  const driven = polling();
  driven.poll({
    events: [
      { channel: "log", id: "a.2.y", event: "message", data: "one" },
      { channel: "log", id: "a.3.z", event: "gap", data: '{"from":1}' },
    ],
    last_event_id: "a.3.z",
    retry: 321,
    end: false,
  });
  assert.deepEqual(driven.events, [
    { type: "message", data: "one", lastEventId: "a.2.y" },
    { type: "gap", data: '{"from":1}', lastEventId: "a.3.z" },
  ]);
  assert.deepEqual(driven.all("burst")[0].detail, { events: 2, retry: 321, transport: "poll", draining: false });
  assert.equal(driven.wait("reconnect"), 321);
  driven.until("reconnect");
  assert.equal(driven.fetched.headers["Last-Event-ID"], "a.3.z");
});

test("of several channels only the whole answer has a cursor, and the data is as on a stream", () => {
  const driven = polling({ url: `${PAGE}/events/?channel=a&channel=b`, cursor: "c0" });
  const event = { channel: "a", id: "a.2.y", event: "log", data: "é" };
  driven.poll({ events: [event, { ...event, id: "a.3.y", event: "gap", data: "{}" }], last_event_id: "c2", retry: 1, end: false });
  assert.deepEqual(driven.events, [
    { type: "log", data: '{"channel":"a","id":"a.2.y","event":"log","data":"é"}', lastEventId: "c0" },
    { type: "gap", data: "{}", lastEventId: "c2" },
  ]);
  assert.deepEqual(driven.all("items")[0].items.map(({ from, to }) => [from, to]), [["c0", "c2"]]);
});

test("a long-poll says the end", () => {
  const driven = polling();
  driven.poll({ events: [], last_event_id: "a.1.x", retry: 0, end: true });
  assert.equal(driven.all("over").length, 1);
});

test("a long-poll that there is none of is no word on the stream, which is asked again", () => {
  const driven = polling({ random: () => 1 });
  const kinds = [];
  const waits = [];
  for (let count = 0; count < 6; count += 1) {
    kinds.push(driven.fetched.as);
    driven.answer(driven.fetched.as === "poll" ? 404 : 502);
    waits.push(driven.wait("reconnect"));
    driven.until("reconnect");
  }
  assert.deepEqual(kinds, ["poll", "stream", "poll", "stream", "poll", "stream"]);
  assert.deepEqual(waits, [2000, 4000, 8000, 16_000, 32_000, 60_000]);
  assert.equal(driven.all("closed").length, 0);
  driven.answer(404);
  assert.equal(polling().give({ type: "response", status: 403 }).at(-1).do, "closed");
});

test("a long-poll's answer may take long, as long as it goes on", () => {
  const driven = polling({ silenceMs: 1000 });
  driven.answer(200, JSON_TYPE);
  for (let count = 0; count < 5; count += 1) {
    driven.clock += 900;
    driven.give({ type: "bytes", chunk: bytes("{") });
  }
  assert.equal(driven.wait("silence"), 1000);
});

test("an answer that is none is an error", () => {
  for (const text of ["", "{}", "[]", "null", '{"events": 1}', "<html>"]) {
    const driven = polling();
    driven.answer(200, JSON_TYPE);
    driven.give({ type: "body", text });
    assert.equal(driven.all("error").at(-1).detail.reason, "answer", text);
  }
  assert.throws(() => readAnswer("{}", { from: "", several: false }));
});

// No right

for (const status of [400, 401, 403, 404, 410]) {
  test(`${status} closes, or asks for another address`, () => {
    const closed = new Driven();
    closed.answer(status);
    assert.deepEqual(closed.all("closed").map(({ detail }) => [detail.status, detail.closed]), [[status, true]]);
    assert.deepEqual([...closed.timers.keys()], []);
    const renewing = new Driven({ canRenew: true, cursor: "a.1.x" });
    renewing.answer(status);
    assert.equal(renewing.all("renew").length, 1);
    assert.deepEqual([renewing.all("closed"), renewing.all("error")], [[], []]);
    const address = new Address(`${PAGE}/events/log/?signature=2&last_event_id=a.0.a`, { origin: PAGE });
    renewing.give({ type: "renewed", address });
    assert.equal(renewing.url.searchParams.get("signature"), "2");
    assert.equal(renewing.fetched.headers["Last-Event-ID"], "a.1.x");
  });
}

test("renewing is at most once in a minute, and not for ever", () => {
  const driven = new Driven({ canRenew: true });
  const { address } = driven.connection;
  const asked = [];
  driven.answer(403);
  for (let count = 0; count < 3; count += 1) {
    asked.push(driven.clock);
    driven.give({ type: "renewed", address });
    driven.clock += 1000;
    driven.answer(403);
    if (count < 2) driven.until("renew");
  }
  assert.deepEqual(asked.slice(1).map((at, index) => at - asked[index]), [60_000, 60_000]);
  assert.equal(driven.all("renew").length, 3);
  assert.equal(driven.all("closed").length, 1);
});

test("a renewal that never comes to an end is one that failed", () => {
  const driven = new Driven({ canRenew: true });
  driven.answer(403);
  for (const asked of [2, 3]) {
    driven.until("silence");
    assert.equal(driven.all("renew").length, asked);
  }
  driven.until("silence");
  assert.deepEqual(driven.all("closed").map(({ detail }) => detail.reason), ["renew"]);
});

test("a renewal that fails is tried again, and what works starts the count anew", () => {
  const driven = new Driven({ canRenew: true });
  driven.answer(403);
  driven.give({ type: "renewFailed" });
  assert.equal(driven.all("error").length, 1);
  driven.until("renew");
  driven.give({ type: "renewed", address: driven.connection.address });
  for (let count = 0; count < 10; count += 1) {
    driven.stream(`${OPENING}retry: 120000\n\n`);
    driven.until("reconnect");
    driven.answer(403);
    driven.give({ type: "renewed", address: driven.connection.address });
  }
  assert.equal(driven.all("closed").length, 0);
});

// Headers

test("Retry-After", () => {
  const now = Date.parse("Wed, 21 Oct 2015 07:28:00 GMT");
  for (const [value, expected] of [
    [null, null], ["", null], ["30", 30_000], [" 0 ", 0], ["soon", null], ["999999", 3_600_000],
    ["Wed, 21 Oct 2015 07:28:30 GMT", 30_000], ["Wed, 21 Oct 2015 07:27:00 GMT", 0],
  ]) {
    assert.equal(readRetryAfter(value, now), expected, value);
  }
});

test("Link", () => {
  const base = `${PAGE}/events/log/`;
  for (const [value, expected] of [
    [null, null], ['<poll/>; rel="alternate"', `${base}poll/`], ["<poll/>; rel=alternate", `${base}poll/`],
    ['<a>; rel="next", <b>; rel="x alternate"', `${base}b`], ['<a>; rel="alternates"', null],
    ['<https://evil.test/>; rel="alternate"', null], ['<javascript:alert(1)>; rel="alternate"', null],
    ['<poll/?a=1,2>; title="x, y"; rel="alternate"', `${base}poll/?a=1,2`],
  ]) {
    assert.equal(readAlternate(value, base), expected, value);
  }
});

// A walk

/** Events with numbers, as a server keeps to its contract: what follows a cursor, whatever is cut. */
function frames(from, count) {
  let text = "";
  for (let number = from + 1; number <= from + count; number += 1) {
    text += `id: a.${number}.t\n${number % 3 ? "" : "event: log\n"}data: ${number}\n${number % 5 ? "" : "data: é\n"}\n`;
  }
  return text;
}

function serve(driven, numbers, { as, cut, split, random }) {
  const last = driven.fetched.headers["Last-Event-ID"];
  const from = last ? Number(last.split(".")[1]) : 0;
  const count = Math.min(numbers - from, 7);
  if (as === "poll") {
    const events = Array.from({ length: count }, (_, index) => ({
      channel: "log", id: `a.${from + index + 1}.t`, event: "message", data: String(from + index + 1),
    }));
    driven.poll({ events, last_event_id: `a.${from + count}.t`, retry: 10, end: false });
    return;
  }
  const whole = bytes(`retry: 10\nid: a.${from}.t\n\n: \n${frames(from, count)}retry: 10\n\n`);
  const end = cut ?? whole.length;
  driven.answer(200, STREAM);
  for (let at = 0; at < end; ) {
    const next = Math.min(end, at + (split ? 1 + Math.floor(random() * split) : end));
    driven.give({ type: "bytes", chunk: whole.slice(at, next) });
    at = next;
  }
  driven.give({ type: cut === undefined ? "end" : random() < 0.5 ? "end" : "error" });
  return whole.length;
}

const numbersOf = (driven) => driven.events.map(({ data }) => Number(data.split("\n")[0]));

test("a stream cut at every position loses nothing and repeats nothing", () => {
  const random = randomFrom(2);
  const length = bytes(`retry: 10\nid: a.0.t\n\n: \n${frames(0, 7)}retry: 10\n\n`).length;
  for (let cut = 0; cut <= length; cut += 1) {
    const driven = new Driven({ random });
    serve(driven, 20, { as: "stream", cut, random });
    for (let count = 0; numbersOf(driven).length < 20; count += 1) {
      assert.ok(count < 10, `cut at ${cut}`);
      driven.until("reconnect");
      serve(driven, 20, { as: driven.fetched.as, random });
    }
    assert.deepEqual(numbersOf(driven), Array.from({ length: 20 }, (_, index) => index + 1), `cut at ${cut}`);
  }
});

test("a random walk through cuts, refusals, errors and long-polls loses nothing and repeats nothing", () => {
  for (let seed = 1; seed <= 60; seed += 1) {
    const random = randomFrom(seed);
    const driven = new Driven({ random, canRenew: true });
    let published = 5;
    let calm = false;
    for (let step = 0; step < 150 || numbersOf(driven).length < published; step += 1) {
      assert.ok(step < 5000);
      if (step < 150) published += Math.floor(random() * 4);
      else calm = true;
      const draw = calm ? 0.95 : random();
      const { as } = driven.fetched;
      if (draw < 0.1) driven.give({ type: "error" });
      else if (draw < 0.2) driven.answer([429, 500, 502, 503][Math.floor(random() * 4)], { retryAfter: random() < 0.5 ? "1" : null });
      else if (draw < 0.25) driven.until("silence");
      else if (draw < 0.3) {
        driven.answer(403);
        if (driven.timers.has("renew")) driven.until("renew");
        driven.give({ type: "renewed", address: driven.connection.address });
      } else if (draw < 0.4 && as === "stream") driven.stream("retry: 2000\n\n", { contentType: "text/event-stream" });
      else if (draw < 0.7) serve(driven, published, { as, cut: Math.floor(random() * 200), split: 40, random });
      else serve(driven, published, { as, split: 40, random });
      if (driven.timers.has("reconnect")) driven.until("reconnect");
    }
    assert.deepEqual(numbersOf(driven), Array.from({ length: published }, (_, index) => index + 1), `seed ${seed}`);
    assert.equal(driven.all("closed").length, 0);
  }
});
