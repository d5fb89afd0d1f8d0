// A page that moves by itself: what it hears on a channel makes it fetch its own address, and what is
// marked data-live there is morphed into the document. Without this script the page is a plain one.

// What it imports it is told the address of: a site may serve its static files by hashed names only.

const FETCH_SECONDS = 10; // for an answer
const CALM_SECONDS = 0.5; // between two fetches, however much is heard
const CALM_SHARE = 2; // and so many times as long as the last one took: a busy server is asked less often
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
  const calm = Math.min(RETRY_SECONDS * 1000, Math.max(CALM_SECONDS * 1000, CALM_SHARE * took));
  const pause = wanted ? Math.max(0, begun + took + calm - Date.now()) : Math.max(every * 1000, calm);
  timer = setTimeout(refresh, pause);
}

function heard() {
  wanted = true;
  if (!fetching) plan();
}

// News of the fleet: one connection for all of a browser's tabs, while any of them is looked at.

const EVENT = "fleet";
const HIDDEN_SECONDS = 5; // after which a tab that nobody looks at lets go
const AGAIN_SECONDS = 5; // until a stream that the server has ended for good is opened anew
const MOST_SECONDS = 300; // and at most, when that goes on

// Call `heard` whenever there is news on the stream at `address`; never if that is empty.
async function follow(address, heard) {
  if (!address) return;
  const { PolledEventSource } = await import(lead().dataset.client);
  whileSeen((signal) => signal.addEventListener("abort", open(PolledEventSource, address, heard)));
}

// Call `begin` with a signal whenever the tab is looked at; it is aborted some time after it is not.
function whileSeen(begin) {
  let seen = null;
  let timer = 0;
  const end = () => {
    seen?.abort();
    seen = null;
  };
  const look = () => {
    clearTimeout(timer);
    if (document.hidden) timer = setTimeout(end, HIDDEN_SECONDS * 1000);
    else if (!seen) begin((seen = new AbortController()).signal);
  };
  document.addEventListener("visibilitychange", look);
  window.addEventListener("pagehide", end);
  window.addEventListener("pageshow", look);
  look();
}

// Open the stream, and anew whenever it was ended for good; return what closes it.
function open(PolledEventSource, address, heard) {
  let source = null;
  let timer = 0;
  let pause = AGAIN_SECONDS;
  const begin = () => {
    source = new PolledEventSource(address);
    source.addEventListener("open", () => (pause = AGAIN_SECONDS));
    source.addEventListener(EVENT, heard);
    source.addEventListener("error", ({ detail }) => {
      if (!detail.closed) return; // it comes back by itself
      timer = setTimeout(begin, pause * (1000 + 250 * Math.random()));
      pause = Math.min(2 * pause, MOST_SECONDS);
    });
  };
  begin();
  return () => {
    clearTimeout(timer);
    source.close();
  };
}

// Make an element like another one by changing what differs only: what has the focus keeps it, what was
// typed stays, what was opened stays open, and nothing flickers.

const KEPT = new Set(["open"]); // of <details>: the reader's own doing

function morph(old, news) {
  const focused = document.activeElement;
  const inside = focused && focused !== old && old.contains(focused);
  change(old, news);
  if (!inside || focused === document.activeElement) return;
  // It was moved; or it is gone, and the keyboard stays where it was.
  (focused.isConnected ? focused : old).focus({ preventScroll: true });
}

function change(old, news) {
  if (old.nodeType === Node.TEXT_NODE || old.nodeType === Node.COMMENT_NODE) {
    if (old.data !== news.data) old.data = news.data;
    return;
  }
  attributes(old, news);
  children(old, news);
}

function attributes(old, news) {
  for (const { name, value } of news.attributes) {
    if (old.getAttribute(name) !== value && !isKept(old, name)) old.setAttribute(name, value);
  }
  for (const { name } of [...old.attributes]) {
    if (!news.hasAttribute(name) && !isKept(old, name)) old.removeAttribute(name);
  }
}

function isKept(element, name) {
  if (KEPT.has(name)) return element.localName === "details";
  return ["value", "checked", "selected"].includes(name) && ["input", "option"].includes(element.localName);
}

function children(old, news) {
  const keyed = new Map([...old.children].filter((each) => each.id).map((each) => [each.id, each]));
  let next = old.firstChild;
  for (const wanted of [...news.childNodes]) {
    let found = wanted.id ? keyed.get(wanted.id) : null;
    if (found) {
      keyed.delete(wanted.id);
    } else if (!wanted.id && next && !next.id && isAlike(next, wanted)) {
      found = next;
    }
    if (!found || !isAlike(found, wanted)) {
      old.insertBefore(document.importNode(wanted, true), next);
      continue;
    }
    if (found === next) next = next.nextSibling;
    else move(old, found, next);
    change(found, wanted);
  }
  while (next) {
    const gone = next;
    next = next.nextSibling;
    gone.remove();
  }
}

function isAlike(one, other) {
  return one.nodeType === other.nodeType && one.nodeName === other.nodeName;
}

function move(parent, child, before) {
  if (parent.moveBefore) parent.moveBefore(child, before); // keeps the focus and what plays
  else parent.insertBefore(child, before);
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
