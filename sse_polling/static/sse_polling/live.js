// A page that moves by itself: what it hears on a channel makes it fetch its own address, and what is
// marked data-live there is morphed into the document. Without this script the page is a plain one.

import { morph } from "./morph.js";
import { follow } from "./news.js";

const FETCH_SECONDS = 10; // for an answer
const CALM_SECONDS = 0.5; // between two fetches, however much is heard
const CALM_SHARE = 4; // and so many times as long as the last one took: a large fleet's page is not for nothing
const SAY_SECONDS = 30; // between two sentences that differ by their numbers only
const RETRY_SECONDS = 5;

const lead = () => document.getElementById("sse-lead");
const still = document.getElementById("sse-still");
const said = document.getElementById("sse-said");

let fetched = Date.now(); // when the figures were last what the server says
let begun = 0; // when it was last asked
let took = 0; // how long it took to answer
let fetching = false;
let wanted = false; // something was heard meanwhile
let closed = false; // this user may not see the page any more
let timer = 0;

async function refresh() {
  if (closed || document.hidden) return;
  if (fetching) {
    wanted = true;
    return;
  }
  fetching = true;
  wanted = false;
  begun = Date.now();
  try {
    apply(await ask());
    fetched = Date.now();
    took = fetched - begun;
    still.hidden = true;
  } catch (error) {
    closed = error instanceof Closed;
    standStill(closed ? lead().dataset.textClosed : lead().dataset.textStill);
  } finally {
    fetching = false;
    plan();
  }
}

class Closed extends Error {}

async function ask() {
  const response = await fetch(location.href.split("#")[0], {
    headers: { [lead().dataset.header]: "1" },
    credentials: "same-origin",
    cache: "no-store",
    signal: AbortSignal.timeout(FETCH_SECONDS * 1000),
  });
  // A login page stands at another address.
  if (response.redirected || [401, 403].includes(response.status)) throw new Closed();
  if (response.status >= 500) throw new Error(`the server answered ${response.status}`);
  const page = new DOMParser().parseFromString(await response.text(), "text/html");
  if (response.status === 404 && !page.querySelector("[data-live]")) {
    location.reload(); // it says in words what is gone
    throw new Error("gone");
  }
  return page;
}

function apply(page) {
  if (names(page) !== names(document)) {
    location.reload(); // the first node came, or the last one went: it is another page
    return;
  }
  for (const part of document.querySelectorAll("[data-live]")) {
    const news = page.getElementById(part.id);
    // Under a pointer that is about to press a button no row moves.
    if (news && part.isConnected && !part.querySelector("td a.button:hover")) morph(part, news);
  }
  say(lead().querySelector(".sse-sentence")?.textContent ?? "");
}

function names(page) {
  return Array.from(page.querySelectorAll("[data-live]"), (part) => part.id).join();
}

// For who listens: at once when the words change, and now and then when only the numbers do.
let words = wordsOf(lead().querySelector(".sse-sentence")?.textContent ?? "");
let saidAt = Date.now();

function wordsOf(sentence) {
  return sentence.replace(/\p{N}[\p{N}.,\s]*/gu, "#");
}

function say(sentence) {
  const now = wordsOf(sentence);
  if (said.textContent === sentence || (now === words && Date.now() - saidAt < SAY_SECONDS * 1000)) return;
  words = now;
  saidAt = Date.now();
  said.textContent = sentence;
}

function standStill(text) {
  const time = new Intl.DateTimeFormat(document.documentElement.lang || undefined, { timeStyle: "medium" });
  still.textContent = text.replace("{time}", time.format(fetched));
  if (still.hidden) said.textContent = still.textContent;
  still.hidden = false;
}

// The next fetch: soon if something was heard, else when nothing was for a while.
function plan() {
  clearTimeout(timer);
  if (closed || document.hidden) return;
  const every = still.hidden ? Number(lead().dataset.every) || RETRY_SECONDS : RETRY_SECONDS;
  const calm = Math.max(CALM_SECONDS * 1000, CALM_SHARE * took);
  const pause = wanted ? Math.max(0, begun + took + calm - Date.now()) : Math.max(every * 1000, calm);
  timer = setTimeout(refresh, pause);
}

function heard() {
  wanted = true;
  if (!fetching) plan();
}

if (lead()) {
  follow(lead().dataset.stream, heard);
  const look = () => {
    clearTimeout(timer);
    closed = false; // who was logged out may have logged in again elsewhere
    refresh();
  };
  document.addEventListener("visibilitychange", look);
  window.addEventListener("pageshow", (event) => event.persisted && look());
  plan();
}
