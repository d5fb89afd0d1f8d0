// The face: an EventSource, against a real server of node's own; without a browser, so it shares with nobody.

import assert from "node:assert/strict";
import { once } from "node:events";
import { createServer } from "node:http";
import { test } from "node:test";

import { PolledEventSource } from "./client.mjs";

/** Run *use* with the address of a server that gives the answers in turn, and what it was asked. */
async function serving(answers, use) {
  const asked = [];
  const server = createServer((request, response) => {
    let body = "";
    request.on("data", (chunk) => (body += chunk));
    request.on("end", () => {
      asked.push({ method: request.method, url: new URL(request.url, "http://x"), headers: request.headers, body });
      if (request.method === "POST") return response.writeHead(204).end();
      const [status, headers, text, keep] = answers.length > 1 ? answers.shift() : answers[0];
      response.writeHead(status, headers);
      response.write(text ?? "");
      if (!keep) response.end();
    });
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const sources = [];
  const open = (path, init) => {
    const source = new PolledEventSource(`http://127.0.0.1:${server.address().port}${path}`, { shared: false, ...init });
    sources.push(source);
    return source;
  };
  try {
    await use(open, asked);
  } finally {
    for (const source of sources) source.close();
    server.closeAllConnections();
    server.close();
  }
}

const STREAM = { "Content-Type": "text/event-stream", "X-SSE-Stream": "s" };
const heard = (source, type) => new Promise((resolve) => source.addEventListener(type, resolve, { once: true }));
const stream = (text, keep) => [200, STREAM, `retry: 5\nid: a.0.x\n\n${text}${keep ? "" : "retry: 5\n\n"}`, keep];

test("it has what an EventSource has", async () => {
  await serving([stream("id: a.1.x\ndata: one\n\nid: a.2.x\nevent: log\ndata: two\n\n", true)], async (open, asked) => {
    const source = open("/events/log/?last_event_id=a.0.x", { withCredentials: true });
    assert.deepEqual([source.readyState, source.CONNECTING, PolledEventSource.OPEN, source.CLOSED], [0, 0, 1, 2]);
    assert.equal(source.withCredentials, true);
    assert.equal(new URL(source.url).pathname, "/events/log/");
    assert.equal(source.lastEventId, "a.0.x");
    const calls = [];
    source.onopen = function (event) {
      calls.push([this === source, event.type, source.readyState]);
    };
    const never = () => assert.fail("it was replaced");
    source.onmessage = never;
    source.onmessage = (event) => calls.push([event instanceof MessageEvent, event.data, event.lastEventId, event.origin]);
    assert.notEqual(source.onmessage, never);
    assert.equal(source.onerror, null);
    source.onerror = never;
    source.onerror = null;
    const log = await heard(source, "log");
    assert.deepEqual(calls, [[true, "open", 1], [true, "one", "a.1.x", new URL(source.url).origin]]);
    assert.deepEqual([log.data, log.lastEventId, source.lastEventId], ["two", "a.2.x", "a.2.x"]);
    source.close();
    assert.equal(source.readyState, 2);
    const { searchParams } = asked[0].url;
    assert.equal(searchParams.get("last_event_id"), "a.0.x");
    assert.equal(searchParams.get("busy"), "stream");
    assert.match(searchParams.get("client"), /^[A-Za-z0-9_-]{22}$/);
  });
});

test("no address is a SyntaxError", () => {
  assert.throws(() => new PolledEventSource("http://"), { name: "SyntaxError" });
});

test("close() in a listener is the last that is heard", async () => {
  await serving([stream("data: one\n\ndata: two\n\nevent: end\ndata: {}\n\n")], async (open) => {
    const source = open("/events/log/");
    const lines = [];
    source.onmessage = ({ data }) => {
      lines.push(data);
      source.close();
    };
    source.onerror = () => assert.fail("it is closed");
    source.addEventListener("end", () => assert.fail("it is closed"));
    source.addEventListener("burst", () => assert.fail("it is closed"));
    await heard(source, "message");
    await new Promise((resolve) => setTimeout(resolve, 50));
    assert.deepEqual([lines, source.readyState], [["one"], 2]);
  });
});

test("gap and end are parsed, and after the end it is closed", async () => {
  const gap = '{"channel":"log","from":1,"to":4,"reason":"trimmed"}';
  const text = `id: a.4.-\nevent: gap\ndata: ${gap}\n\nid: a.5.~x\nevent: end\ndata: nothing\n\n`;
  await serving([stream(text)], async (open, asked) => {
    const source = open("/events/log/");
    const [lost, end] = await Promise.all([heard(source, "gap"), heard(source, "end")]);
    assert.deepEqual([lost.data, lost.detail], [gap, JSON.parse(gap)]);
    assert.deepEqual([end.data, end.detail, end.lastEventId], ["nothing", null, "a.5.~x"]);
    assert.equal(source.readyState, 2);
    assert.equal(asked.length, 1);
  });
});

test("204 is an end, too", async () => {
  await serving([[204, {}]], async (open) => {
    const source = open("/events/log/?last_event_id=a.5.~x");
    const end = await heard(source, "end");
    assert.deepEqual([end.data, end.detail, source.readyState], ["", null, 2]);
  });
});

test("a burst, a 503 that says where to poll, the poll's end", async () => {
  const polled = { events: [{ channel: "log", id: "a.2.x", event: "message", data: "two" }], last_event_id: "a.2.x", retry: 1, end: true };
  const answers = [
    stream("id: a.1.x\ndata: one\n\n"),
    [503, { "Retry-After": "30", Link: '<poll/?busy=stream>; rel="alternate"' }, "Connection pool exhausted."],
    [200, { "Content-Type": "application/json" }, JSON.stringify(polled)],
  ];
  await serving(answers, async (open, asked) => {
    const source = open("/events/log/", { backoffMs: 5 });
    const lines = [];
    source.onmessage = ({ data }) => lines.push([data, source.transport]);
    const [burst, error] = await Promise.all([heard(source, "burst"), heard(source, "error"), heard(source, "end")]);
    assert.deepEqual(burst.detail, { events: 1, retry: 5, transport: "stream", draining: false });
    assert.deepEqual([error.detail.status, error.detail.closed], [503, false]);
    assert.deepEqual(lines, [["one", "stream"], ["two", "poll"]]);
    assert.deepEqual(asked.map(({ url }) => url.pathname), ["/events/log/", "/events/log/", "/events/log/poll/"]);
    assert.equal(new Set(asked.map(({ url }) => url.searchParams.get("client"))).size, 1);
  });
});

test("close is acked with a form, by the name of the request", async () => {
  const answers = [stream("event: close\ndata: pool_draining\n\n"), [204, {}]];
  await serving(answers, async (open, asked) => {
    const source = open("/events/?channel=a&channel=b");
    const [closing, burst] = await Promise.all([heard(source, "close"), heard(source, "burst"), heard(source, "end")]);
    assert.deepEqual([closing.data, burst.detail.draining], ["pool_draining", true]);
    let ack;
    for (let count = 0; !ack && count < 100; count += 1) {
      ack = asked.find(({ method }) => method === "POST"); // on a connection of its own: it may come last
      if (!ack) await new Promise((resolve) => setTimeout(resolve, 10));
    }
    assert.equal(ack.url.pathname, "/events/ack/");
    assert.match(ack.headers["content-type"], /^application\/x-www-form-urlencoded/);
    const begun = asked.find(({ method }) => method === "GET");
    assert.equal(ack.body, `client=${begun.url.searchParams.get("client")}`);
  });
});

test("renew gives another address, relative to the first", async () => {
  await serving([[403, {}], stream("data: one\n\n", true)], async (open, asked) => {
    const source = open("/events/log/?signature=1", { renew: async () => "/events/log/?signature=2" });
    await heard(source, "message");
    assert.deepEqual(asked.map(({ url }) => url.searchParams.get("signature")), ["1", "2"]);
  });
});

test("without the right it closes with an error", async () => {
  await serving([[403, {}]], async (open) => {
    const source = open("/events/log/");
    const { detail } = await heard(source, "error");
    assert.deepEqual([detail.status, detail.closed, detail.retry, source.readyState], [403, true, null, 2]);
  });
});
