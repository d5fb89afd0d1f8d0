// Tabs that share one connection: nothing lost, nothing repeated in any of them, and one connection.

import assert from "node:assert/strict";
import { test } from "node:test";

import { randomFrom } from "./client.mjs";
import { World } from "./world.mjs";

function world({ seed = 1, ...options } = {}) {
  return new World({ random: randomFrom(seed), ...options });
}

/** Assert that a tab got what follows its start, of each channel, once and in order; all of it if *whole*. */
function check(tab, { whole = true, note = "" } = {}) {
  const { server } = tab.world;
  const start = tab.start ? server.places(tab.start) : null;
  for (const channel of tab.world.channels) {
    const numbers = tab.got.filter((name) => name.startsWith(channel)).map((name) => Number(name.slice(1)));
    const first = start ? start[channel] + 1 : numbers[0] ?? 0;
    const expected = numbers.map((_, index) => first + index);
    assert.deepEqual(numbers, expected, `${note} tab ${tab.member.id}, ${tab.member.role}, channel ${channel}`);
    if (whole && start) assert.equal(numbers.length, server.heads[channel] - start[channel], `${note} tab ${tab.member.id}, ${tab.member.role}: all of ${channel}`);
  }
}

const roles = (world) => world.living.map((tab) => tab.member.role).sort();
const connections = (world) => world.living.reduce((sum, tab) => sum + tab.connections, 0);
const owner = (world) => world.living.find((tab) => tab.member.role === "owning");

function ten(options) {
  const site = world(options);
  site.server.publish(3);
  const cursor = site.server.cursor(site.server.heads);
  for (let count = 0; count < 10; count += 1) {
    site.open(cursor);
    site.run(30);
  }
  site.run(2000);
  return site;
}

test("ten tabs have one connection, and each gets all", () => {
  const site = ten();
  assert.deepEqual(roles(site), [...Array(9).fill("following"), "owning"]);
  for (let count = 0; count < 200; count += 1) {
    site.server.publish();
    site.run(site.between(0, 100));
    assert.ok(connections(site) <= 1);
  }
  site.run(5000);
  for (const tab of site.tabs) {
    check(tab);
    assert.equal(tab.got.length, 200);
    assert.equal(tab.seen.filter((name) => name === "open").length, 1);
    assert.ok(tab.seen.includes("burst"));
    assert.ok(!tab.seen.includes("error"));
  }
});

for (const [how, leave] of Object.entries({
  closes: (tab) => tab.close(),
  crashes: (tab) => tab.crash(),
  "is frozen": (tab) => tab.give({ type: "away" }),
})) {
  test(`when the owner ${how} another takes over within a second, again and again`, () => {
    const site = ten({ seed: 3 });
    const left = [];
    for (let round = 0; round < 8; round += 1) {
      const gone = owner(site);
      site.server.publish(5);
      site.run(40);
      leave(gone);
      left.push(gone);
      site.server.publish(5);
      site.run(1000);
      assert.ok(owner(site) && owner(site) !== gone);
      assert.ok(connections(site) <= 1);
      site.run(500);
    }
    site.run(5000);
    for (const tab of site.tabs) check(tab, { whole: !left.includes(tab) });
    for (const tab of left) if (!tab.isDead) tab.give({ type: "back" });
    site.run(10_000);
    for (const tab of site.living) check(tab);
    assert.ok(connections(site) <= 1);
    assert.equal(roles(site).filter((role) => role === "owning").length, 1);
  });
}

test("a tab that comes with a cursor of its own gets what it lacks first, and shares then", () => {
  const site = ten();
  site.server.publish(50);
  site.run(10_000);
  const known = site.open("a.20"); // the owner still has what follows
  site.run(500);
  assert.equal(known.member.role, "following");
  const long = world();
  long.server.publish(3000);
  long.open("a.2990");
  long.run(3000);
  const asked = long.server.asked;
  const late = long.open("a.1000"); // it has not
  for (let count = 0; count < 300; count += 1) {
    long.server.publish();
    long.run(300);
  }
  long.run(30_000);
  assert.ok(long.server.asked > asked + 50);
  assert.deepEqual(roles(long), ["following", "owning"]);
  check(late);
  check(known);
});

test("a tab without a cursor begins at the owner's place", () => {
  const site = ten();
  const late = site.open();
  site.run(500);
  assert.equal(late.member.role, "following");
  site.server.publish(5);
  site.run(3000);
  assert.deepEqual(late.got, ["a4", "a5", "a6", "a7", "a8"]);
});

test("tabs that all come without a cursor begin together, and later ones are told nothing older", () => {
  const site = world();
  site.server.publish(4);
  for (let count = 0; count < 3; count += 1) site.open();
  site.run(2000);
  site.server.publish(2);
  site.run(3000);
  const late = site.open();
  site.run(2000);
  site.server.publish(1);
  site.run(3000);
  for (const tab of site.tabs.slice(0, 3)) assert.deepEqual(tab.got, ["a5", "a6", "a7"]);
  assert.deepEqual(late.got, ["a7"]);
});

test("tabs that are seen keep the time for an owner that is hidden", () => {
  for (const seen of [true, false]) {
    const site = ten({ seed: 4 });
    for (const tab of site.tabs) {
      tab.isThrottled = !(seen && tab === site.tabs[7]);
      tab.give({ type: "visible", visible: !tab.isThrottled });
    }
    site.run(5000);
    const asked = site.server.asked;
    site.run(60_000);
    const more = site.server.asked - asked;
    assert.ok(seen ? more > 15 : more < 5, `${more} requests in a minute`);
  }
});

test("a tab that is hidden takes over within a second, too, as long as another is seen", () => {
  const site = ten({ seed: 4 });
  const seen = site.tabs[7];
  for (const tab of site.tabs) {
    tab.isThrottled = tab !== seen;
    tab.give({ type: "visible", visible: !tab.isThrottled });
  }
  for (let round = 0; round < 5; round += 1) {
    site.run(1500);
    const gone = owner(site);
    if (gone === seen) break;
    gone.close();
    site.run(1000);
    assert.ok(owner(site), `round ${round}: ${roles(site)}`);
    assert.ok(owner(site) !== seen || round > 0);
  }
  site.server.publish(5);
  site.run(5000);
  for (const tab of site.living) check(tab);
});

test("a source that shares with nobody says nothing to anybody", () => {
  const site = world({ options: { shared: false } });
  for (let count = 0; count < 3; count += 1) site.open("a.0");
  site.server.publish(5);
  site.run(5000);
  assert.equal(site.messages, 0);
  for (const tab of site.tabs) {
    check(tab);
    assert.equal(tab.member.role, "owning");
  }
  site.tabs[0].give({ type: "away" });
  site.server.publish(5);
  site.run(5000);
  assert.equal(site.tabs[0].connections, 0);
  site.tabs[0].give({ type: "back" });
  site.run(5000);
  for (const tab of site.tabs) check(tab);
});

test("an owner without the right gives way to those who have it", () => {
  const site = ten({ seed: 8 });
  const [stream] = site.server.streams;
  const gone = owner(site);
  stream?.end();
  site.server.denied = gone;
  for (let count = 0; gone.member.role !== "closed"; count += 1) {
    assert.ok(count < 100);
    site.run(100);
  }
  assert.deepEqual(gone.seen.slice(-1), ["error"]);
  site.server.publish(5);
  site.run(5000);
  for (const tab of site.tabs) if (tab !== gone) check(tab);
  assert.equal(connections(site) <= 1, true);
});

test("an owner that hangs has its lock stolen, and is exact when it wakes", () => {
  const site = ten({ seed: 5, options: { silenceMs: 3000 } });
  const hung = owner(site);
  hung.hang(60_000);
  for (let count = 0; count < 100; count += 1) {
    site.server.publish();
    site.run(300);
  }
  assert.ok(owner(site) !== hung || site.living.filter((tab) => tab.member.role === "owning").length > 1);
  for (const tab of site.tabs) if (tab !== hung) check(tab, { whole: false });
  assert.ok(site.tabs.filter((tab) => tab !== hung).every((tab) => tab.got.length >= 80));
  site.run(60_000);
  for (const tab of site.tabs) check(tab);
  assert.deepEqual(roles(site), [...Array(9).fill("following"), "owning"]);
});

test("a tab whose question is never answered does not wait for long", () => {
  const site = ten({ seed: 6 });
  owner(site).hang(20_000);
  const late = site.open("a.1");
  site.run(3000);
  assert.equal(late.member.role, "alone");
  check(late);
  site.run(40_000);
  assert.ok(connections(site) <= 1);
});

test("an end ends all tabs, and each says it once", () => {
  let asked = 0;
  for (let seed = 1; seed <= 20; seed += 1) {
    const site = ten({ seed });
    while (!site.server.streams.size) site.run(10);
    for (const each of site.server.streams) each.say("id: a.4\nevent: end\ndata: {}\n\n");
    site.server.end = "a.4";
    asked -= site.server.asked;
    site.run(3000);
    asked += site.server.asked;
    for (const tab of site.tabs) {
      assert.equal(tab.member.readyState, 2, `seed ${seed}`);
      assert.deepEqual(tab.got, ["{}"], `seed ${seed}`);
    }
    assert.equal(connections(site), 0);
  }
  assert.ok(asked <= 80, `most are told by the owner: ${asked} of 200 asked`);
});

test("a tab that an item does not follow on delivers nothing, and asks", () => {
  const site = ten();
  const tab = site.tabs.find((each) => each.member.role === "following");
  const from = owner(site).member.id;
  const event = { type: "message", data: "a99", lastEventId: "a.99" };
  const item = { from: "a.98", to: "a.99", events: [event] };
  const { messages } = site;
  tab.give({ type: "message", message: { kind: "items", from: "a stranger", items: [item] } });
  assert.deepEqual([tab.member.role, tab.got, site.messages], ["following", [], messages]);
  tab.give({ type: "message", message: { kind: "items", from, items: [item] } });
  assert.deepEqual([tab.member.role, tab.got, site.messages], ["asking", [], messages + 1]);
  site.run(200);
  assert.equal(tab.member.role, "following");
  site.server.publish(3);
  site.run(3000);
  check(tab);
  // What it has had already is no reason to ask.
  const old = { from: "a.3", to: "a.4", events: [{ ...event, lastEventId: "a.4" }] };
  tab.give({ type: "message", message: { kind: "items", from, items: [old] } });
  assert.equal(tab.member.role, "following");
  check(tab);
});

test("who leads, and then asks as others do, is followed no longer", () => {
  const site = ten();
  const tab = site.tabs.find((each) => each.member.role === "following");
  const { cursor } = tab.member;
  // A tab that hung as it took over, whose lock was stolen before it knew.
  const robbed = { from: "robbed", cursor };
  tab.give({ type: "message", message: { kind: "lead", state: 1, transport: "stream", ...robbed } });
  tab.give({ type: "message", message: { kind: "hello", ...robbed } });
  site.server.publish(3);
  site.run(3000);
  assert.equal(tab.member.role, "following");
  check(tab);
});

test("a tab of another kind of message is not understood, and harms nothing", () => {
  const site = ten();
  const [tab] = site.tabs;
  for (const kind of ["hello", "items", "welcome", "lead", "unheard"]) {
    assert.doesNotThrow(() => tab.give({ type: "message", message: { kind, from: tab.member.id, items: [] } }));
  }
  site.run(100);
  assert.equal(connections(site) <= 1, true);
});

function walk({ seed, channels, steps }) {
  const random = randomFrom(seed);
  const site = new World({ random, channels, options: { silenceMs: 4000 } });
  const note = `seed ${seed}, ${channels}:`;
  site.server.publish(20);
  site.server.trouble = seed % 3 ? 0.15 : 0;
  site.server.polite = seed % 2 ? 0.1 : 0;
  const away = new Set();
  for (let step = 0; step < steps; step += 1) {
    site.server.publish(Math.floor(random() * 4));
    const draw = random();
    const tab = site.living[Math.floor(random() * site.living.length)];
    if (!tab || (draw < 0.12 && site.living.length < 8)) {
      const places = Object.fromEntries(
        channels.map((channel) => [channel, Math.floor(site.server.heads[channel] * (0.7 + 0.3 * random()))]),
      );
      site.open([site.server.cursor(places), site.server.cursor(site.server.heads), "", "earliest"][Math.floor(random() * 4)]);
    } else if (draw < 0.16) tab.close();
    else if (draw < 0.2) tab.crash();
    else if (draw < 0.23 && random() < 0.5) tab.hang(random() * 12_000);
    else if (draw < 0.28) {
      tab.give({ type: "away" });
      away.add(tab);
    } else if (draw < 0.36 && away.size) {
      const [back] = away;
      away.delete(back);
      back.give({ type: "back" });
    } else if (draw < 0.4) {
      owner(site)?.[random() < 0.5 ? "close" : "crash"]();
    }
    site.run(random() < 0.1 ? random() * 3000 : random() * 150);
    if (step % 20 === 0) for (const each of site.tabs) check(each, { whole: false, note });
  }
  for (const back of away) back.give({ type: "back" });
  site.server.trouble = site.server.polite = 0;
  site.run(120_000);
  for (const each of site.tabs) check(each, { whole: !each.isDead, note });
  if (site.living.length) {
    assert.equal(roles(site).filter((role) => role === "owning").length, 1, `${note} ${roles(site)}`);
    assert.ok(connections(site) <= 1, `${note} ${connections(site)} connections, ${roles(site)}`);
  }
  return site;
}

test("a random walk of tabs that come, go, crash, hang and freeze loses nothing and repeats nothing", () => {
  for (let seed = 1; seed <= 30; seed += 1) walk({ seed, channels: ["a"], steps: 120 });
});

test("nor does one of tabs that read several channels, whose order differs between connections", () => {
  for (let seed = 1; seed <= 30; seed += 1) walk({ seed, channels: ["a", "b", "c"], steps: 120 });
});
