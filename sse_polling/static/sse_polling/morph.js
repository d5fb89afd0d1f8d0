// Make an element like another one by changing what differs only: what has the focus keeps it, what was
// typed stays, what was opened stays open, and nothing flickers.

const KEPT = new Set(["open"]); // of <details>: the reader's own doing

export function morph(old, news) {
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
