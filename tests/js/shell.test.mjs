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
const heard = async (source, type) => (await once(source, type, { signal: AbortSignal.timeout(5000) }))[0];
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
  for (const url of ["http://", "mailto:a@site.test", "data:text/event-stream,data:x"]) {
    assert.throws(() => new PolledEventSource(url), { name: "SyntaxError" }, url);
  }
});

test("its constants are where an EventSource has them, and stay", () => {
  for (const holder of [PolledEventSource, PolledEventSource.prototype]) {
    assert.deepEqual([holder.CONNECTING, holder.OPEN, holder.CLOSED], [0, 1, 2]);
    assert.throws(() => (holder.OPEN = 3), TypeError);
  }
});

test("null is taken for no options, as by EventSource", () => {
  const source = new PolledEventSource("http://127.0.0.1:1/", null);
  assert.equal(source.withCredentials, false);
  source.close();
});

test("each event comes in a task of its own: what one listener awaits is before the next event", async () => {
  const text = "data: one\n\ndata: two\n\nid: a.3.x\ndata: three\n\nevent: end\ndata: {}\n\n";
  await serving([stream(text)], async (open) => {
    const source = open("/events/log/");
    const order = [];
    source.onmessage = async ({ data }) => {
      for (let turn = 0; turn < 20; turn += 1) await null;
      order.push(`${data} at ${source.lastEventId}`);
    };
    for (const expected of ["one", "two", "three"]) assert.equal((await heard(source, "message")).data, expected);
    await heard(source, "end");
    assert.deepEqual(order, ["one at a.0.x", "two at a.0.x", "three at a.3.x"]);
    assert.equal(source.readyState, 2);
  });
});

test("a listener that throws keeps no other from hearing", async () => {
  const thrown = [];
  const listeners = process.listeners("uncaughtException");
  process.removeAllListeners("uncaughtException");
  process.on("uncaughtException", (error) => thrown.push(error.message));
  try {
    await serving([stream("data: one\n\ndata: two\n\nevent: end\ndata: {}\n\n")], async (open) => {
      const source = open("/events/log/");
      const lines = [];
      source.onmessage = () => {
        throw new Error("mine");
      };
      source.addEventListener("message", ({ data }) => lines.push(data));
      await heard(source, "end");
      assert.deepEqual([lines, thrown], [["one", "two"], ["mine", "mine"]]);
    });
  } finally {
    process.removeAllListeners("uncaughtException");
    for (const listener of listeners) process.on("uncaughtException", listener);
  }
});

test("what comes next is asked for once this is heard: no queue grows for a page that is slow", async () => {
  const lines = Array.from({ length: 5000 }, (_, index) => `id: a.${index + 1}.x\ndata: ${index + 1}\n\n`).join("");
  await serving([stream(lines), [204, {}]], async (open, asked) => {
    const source = open("/events/log/");
    const seen = [];
    source.onmessage = () => {
      for (const until = performance.now() + 0.05; performance.now() < until; );
      seen.push(asked.length);
    };
    await heard(source, "end");
    assert.deepEqual([seen.length, Math.max(...seen)], [5000, 1]);
  });
});

test("a wait that is longer than any timer is no wait of none", async () => {
  await serving([stream("data: one\n\n", true)], async (open, asked) => {
    const source = open("/events/log/", { silenceMs: Infinity });
    source.onerror = () => assert.fail("it is no error that nothing is said");
    await heard(source, "message");
    await new Promise((resolve) => setTimeout(resolve, 50));
    assert.equal(asked.length, 1);
  });
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

test("a long-poll's answer has room for many events, however short the longest may be", async () => {
  const data = "x".repeat(90);
  const events = Array.from({ length: 100 }, (_, index) => ({ channel: "log", id: `a.${index}.x`, event: "message", data }));
  const polled = { events, last_event_id: "a.99.x", retry: 1, end: true };
  const answers = [
    [503, { Link: '<poll/>; rel="alternate"' }],
    [200, { "Content-Type": "application/json" }, JSON.stringify(polled)],
  ];
  await serving(answers, async (open) => {
    const source = open("/events/log/", { backoffMs: 5, maxEventLength: 100 });
    let count = 0;
    source.onmessage = () => (count += 1);
    await heard(source, "end");
    assert.equal(count, 100);
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

/** Run *use* where the browser has these. */
async function having(globals, use) {
  const before = Object.keys(globals).map((name) => [name, Object.getOwnPropertyDescriptor(globalThis, name)]);
  for (const [name, value] of Object.entries(globals)) Object.defineProperty(globalThis, name, { value, configurable: true });
  try {
    await use();
  } finally {
    for (const [name, descriptor] of before) {
      if (descriptor) Object.defineProperty(globalThis, name, descriptor);
      else delete globalThis[name];
    }
  }
}

class Denied {
  constructor() {
    throw new DOMException("the user keeps sites from storing anything", "SecurityError");
  }
}
const DENIED_LOCKS = { locks: { request: async () => new Denied() } };
const GIVEN_LOCKS = { locks: { request: async (name, options, call) => call({ name }) } };

for (const [what, globals] of Object.entries({
  "locks are denied": { navigator: DENIED_LOCKS },
  "channels are denied": { navigator: GIVEN_LOCKS, BroadcastChannel: Denied },
  "both are denied": { navigator: DENIED_LOCKS, BroadcastChannel: Denied },
})) {
  test(`where ${what} it has a connection of its own`, async () => {
    await having(globals, () =>
      serving([stream("data: one\n\nevent: end\ndata: {}\n\n")], async (open) => {
        const source = open("/events/log/", { shared: true });
        assert.equal((await heard(source, "message")).data, "one");
        await heard(source, "end");
      }),
    );
  });
}

test("the state changes in the task of the event that tells of it", async () => {
  await serving([[403, {}]], async (open) => {
    const source = open("/events/log/");
    let errors = 0;
    source.onerror = () => (errors += 1);
    for (let turns = 0; source.readyState !== PolledEventSource.CLOSED; turns += 1) {
      assert.ok(turns < 10_000);
      await new Promise((resolve) => setImmediate(resolve));
    }
    assert.equal(errors, 1);
  });
});
