// The client as a module, wherever node is: a `.js` without a package.json is none to all of its versions.

import { copyFileSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { pathToFileURL } from "node:url";

const directory = mkdtempSync(join(tmpdir(), "client-"));
const copy = join(directory, "client.mjs");
copyFileSync(new URL("../../sse_polling/static/sse_polling/client.js", import.meta.url), copy);
const client = await import(pathToFileURL(copy));
rmSync(directory, { recursive: true });

export const { Address, Connection, EventStreamParser, Member, PolledEventSource } = client;
export const { readAlternate, readAnswer, readRetryAfter } = client;

/** Return numbers from 0 to 1 that are the same in each run (mulberry32). */
export function randomFrom(seed) {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4294967296;
  };
}

export const bytes = (text) => new TextEncoder().encode(text);
