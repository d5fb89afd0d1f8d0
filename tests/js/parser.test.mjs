// Bytes into blocks: the standard, table by table, and every cut.

import assert from "node:assert/strict";
import { test } from "node:test";

import { EventStreamParser, bytes, randomFrom } from "./client.mjs";

function read(chunks, options) {
  const parser = new EventStreamParser(options);
  const blocks = chunks.flatMap((chunk) => parser.feed(chunk));
  return { parser, blocks, events: blocks.filter(({ event }) => event).map(({ event, to }) => [event.type, event.data, to]) };
}

const TABLE = [
  ["one event", "data: a\n\n", [["message", "a", ""]]],
  ["a name and an id", "id: 1\nevent: log\ndata: a\n\n", [["log", "a", "1"]]],
  ["several data lines", "data: a\ndata\ndata:b\n\n", [["message", "a\n\nb", ""]]],
  ["only the first space goes", "data:  a \n\n", [["message", " a ", ""]]],
  ["a colon in the data", "data: a: b\n\n", [["message", "a: b", ""]]],
  ["an empty data line is an event", "data\n\n", [["message", "", ""]]],
  ["a name without data is none", "event: log\n\ndata: a\n\n", [["message", "a", ""]]],
  ["comments", ": x\n:\ndata: a\n: y\n\n", [["message", "a", ""]]],
  ["unknown fields", "Data: x\nfoo\n data: y\ndata: a\n\n", [["message", "a", ""]]],
  ["CR, LF and CRLF", "data: a\r\rdata: b\n\ndata: c\r\n\r\n", ["a", "b", "c"].map((data) => ["message", data, ""])],
  ["a CRLF is one end, also between two lines of a block", "data: a\r\ndata: b\r\nid: 1\r\n\r\n", [["message", "a\nb", "1"]]],
  ["an unfinished block is dropped", "data: a\n\ndata: b\n", [["message", "a", ""]]],
  ["a byte order mark", "\ufeffdata: a\n\n", [["message", "a", ""]]],
  ["only one, and only at the start", "\ufeff\ufeffdata: a\n\ndata: \ufeffb\n\n", [["message", "\ufeffb", ""]]],
  ["the id stays", "id: 1\ndata: a\n\ndata: b\n\n", [["message", "a", "1"], ["message", "b", "1"]]],
  ["an empty id forgets it", "id: 1\ndata: a\n\nid\ndata: b\n\n", [["message", "a", "1"], ["message", "b", ""]]],
  ["an id with NUL is none", "id: 1\n\nid: 2\0\ndata: a\n\n", [["message", "a", "1"]]],
  ["an id alone moves in silence", "id: 7\n\ndata: a\n\n", [["message", "a", "7"]]],
  ["an id at the end of an unfinished block", "id: 1\ndata: a\n\nid: 2\n", [["message", "a", "1"]]],
  ["the last of several", "id: 1\nid: 2\nevent: x\nevent: y\ndata: a\n\n", [["y", "a", "2"]]],
  ["beyond the BMP", "data: 😀é\n\n", [["message", "😀é", ""]]],
];

for (const [name, stream, expected] of TABLE) {
  test(name, () => {
    assert.deepEqual(read([bytes(stream)]).events, expected);
  });
}

test("every cut of every stream reads the same", () => {
  for (const [name, stream, expected] of TABLE) {
    const whole = bytes(stream);
    for (let cut = 0; cut <= whole.length; cut += 1) {
      assert.deepEqual(read([whole.slice(0, cut), whole.slice(cut)]).events, expected, `${name} at ${cut}`);
    }
    assert.deepEqual(read([...whole].map((byte) => Uint8Array.of(byte))).events, expected, `${name}, by bytes`);
  }
});

test("a long stream cut at random reads the same", () => {
  const random = randomFrom(1);
  const ends = ["\n", "\r", "\r\n"];
  let stream = "";
  const expected = [];
  for (let index = 0; index < 300; index += 1) {
    const end = () => ends[Math.floor(random() * 3)];
    const data = ["é😀", "", ": no", "x".repeat(Math.floor(random() * 50))][Math.floor(random() * 4)];
    // A CR before an LF is one line's end: a field stands between, or two of a kind.
    const both = end();
    stream += `id: ${index}${end()}: c${end()}data: ${data}${both}${both}`;
    expected.push(["message", data, String(index)]);
  }
  const whole = bytes(stream);
  for (let round = 0; round < 20; round += 1) {
    const chunks = [];
    for (let at = 0; at < whole.length; ) {
      const next = at + Math.floor(random() * 30);
      chunks.push(whole.slice(at, next));
      at = next;
    }
    assert.deepEqual(read(chunks).events, expected);
  }
});

test("a block that only moves the cursor is told, and starts from what was remembered", () => {
  const { blocks, parser } = read([bytes("retry: 5\nid: 2\n\n: x\n\ndata: a\n\n")], { lastEventId: "1" });
  assert.deepEqual(blocks, [
    { from: "1", to: "2", event: null },
    { from: "2", to: "2", event: { type: "message", data: "a" } },
  ]);
  assert.equal(parser.lastEventId, "2");
});

test("retry takes digits only", () => {
  for (const [line, expected] of [["retry: 12", 12], ["retry: 1.5", null], ["retry: -1", null], ["retry", null], ["retry: 1s", null], ["retry:0", 0]]) {
    assert.equal(read([bytes(`${line}\n\n`)]).parser.retryMs, expected, line);
  }
  const { parser } = read([bytes("retry: 1\n\nretry: 2\n\nretry: x\n\n")]);
  assert.deepEqual([parser.retryMs, parser.retries], [2, 2]);
});

test("it knows whether it stands between two blocks", () => {
  for (const [stream, clean] of [["", true], ["data: a\n\n", true], ["data: a\n", false], ["da", false], ["event: x\n", false], ["id: 1\n", false], [": c\n", true], [":", false]]) {
    assert.equal(read([bytes(stream)]).parser.isClean, clean, JSON.stringify(stream));
  }
});

test("a line, or an event's lines together, end at the limit; what came before is told", () => {
  const limit = { maxLength: 100 };
  assert.equal(read([bytes(`data: ${"x".repeat(94)}\n\n`)], limit).parser.overflow, false);
  for (const stream of [`data: ${"x".repeat(95)}`, `data: ${"x".repeat(95)}\n\n`, "data: 123456789\n".repeat(11), "x".repeat(101)]) {
    const { parser, events } = read([bytes(`data: a\n\n${stream}`), bytes("\n\ndata: b\n\n")], limit);
    assert.equal(parser.overflow, true, stream);
    assert.deepEqual(events, [["message", "a", ""]]);
  }
  const parser = new EventStreamParser(limit);
  for (let index = 0; index < 50; index += 1) parser.feed(bytes("xxxxx"));
  assert.equal(parser.overflow, true);
});

test("a line of many chunks takes no time that grows with its square", () => {
  const parser = new EventStreamParser();
  const chunk = bytes("x".repeat(64));
  parser.feed(bytes("data: "));
  for (let index = 0; index < 16_000; index += 1) parser.feed(chunk);
  const [{ event }] = parser.feed(bytes("\n\n"));
  assert.equal(event.data.length, 16_000 * 64);
});
