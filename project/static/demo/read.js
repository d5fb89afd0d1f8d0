import { follow } from "./meter.js";

const KEPT = 500;
const MAX_CHARACTERS = 2000;
const list = document.querySelector("[data-lines]");
const total = document.querySelector("[data-total]");
const followed = document.querySelector("[data-follow]");
const whole = new Intl.NumberFormat("en");

let count = 0;
let fresh = []; // what the next frame puts into the page; never more than the page keeps

const stream = follow(document.querySelector("[data-stream]"));
document.querySelector("[data-kept]").textContent = String(KEPT);

stream.addEventListener("message", ({ detail }) => {
  count += 1;
  add(detail.event === "message" ? detail.data : `${detail.event}: ${detail.data}`);
});
stream.addEventListener("gap", ({ detail }) => {
  add(`gap: ${detail.from} to ${detail.to} are gone (${detail.reason})`, "gap");
});
stream.addEventListener("end", () => add("The channel is finished.", "end"));

function add(text, kind = "") {
  if (fresh.length === 0) requestAnimationFrame(show);
  fresh.push([count, text.length > MAX_CHARACTERS ? `${text.slice(0, MAX_CHARACTERS)}…` : text, kind]);
  if (fresh.length > KEPT) fresh.shift();
}

function show() {
  document.querySelector("[data-empty]")?.remove();
  list.append(
    ...fresh.map(([number, text, kind]) => {
      const item = document.createElement("li");
      item.value = number;
      item.textContent = text;
      if (kind) item.className = kind;
      return item;
    }),
  );
  fresh = [];
  while (list.childElementCount > KEPT) list.firstChild.remove();
  total.textContent = whole.format(count);
  if (followed.checked) list.scrollTop = list.scrollHeight;
}
