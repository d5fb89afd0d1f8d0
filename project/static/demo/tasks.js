// The console: the list of tasks is one channel, the steps of what is watched are others.

import { PolledEventSource } from "../sse_polling/client.js";
import { stepItem, answerArticle } from "./steps.js";

const root = document.querySelector("[data-console]");
const list = root.querySelector("[data-tasks]");
const status = root.querySelector("[data-status]");
const time = new Intl.DateTimeFormat("en", {
  hour: "2-digit",
  minute: "2-digit",
  second: "2-digit",
  fractionalSecondDigits: 3,
  hour12: false,
});

let due = null; // the next drawing of the timeline

const STATES = {
  waiting: "Waits for a worker.",
  running: "At work.",
  done: "Done. The channel is finished.",
  failed: "Failed. The channel is finished.",
  cancelled: "Cancelled. The channel is finished.",
};

const states = new PolledEventSource(root.dataset.states);
states.addEventListener("message", ({ data }) => show(JSON.parse(data)));

for (const section of root.querySelectorAll("[data-watch]")) watch(section);
const main = root.querySelector("[data-watch]:not([data-watch-source])");
if (main) {
  const { state } = status.dataset;
  if (isOver(state)) status.textContent = "Reading what is stored.";
  else say(state);
  drawTimeline();
}

// One line of the list, made or brought up to date.
function show(task) {
  let row = list.querySelector(`[data-task="${CSS.escape(task.id)}"]`);
  if (!row) {
    row = document.createElement("li");
    row.dataset.task = task.id;
    const link = document.createElement("a");
    link.href = `${root.dataset.base}${task.id}/`;
    for (const name of ["what", "kind", "state"]) {
      link.append(Object.assign(document.createElement("span"), { className: name }));
    }
    link.querySelector(".what").textContent = task.question;
    row.append(link);
    list.prepend(row);
    while (list.childElementCount > Number(list.dataset.listed)) list.lastChild.remove();
  }
  row.dataset.state = task.state;
  row.querySelector(".state").textContent = task.state;
  row.querySelector(".kind").textContent =
    task.kind === "index" ? "reads along" : task.parent ? "asked by an agent" : "answers";
  root.querySelector("[data-none]").hidden = true;
  // That it is over, its own channel says, after its last step.
  if (main?.dataset.watch === task.id && !isOver(task.state) && !main.dataset.ended) say(task.state);
  const source = root.querySelector("[data-watch-source]:not([data-watch])");
  if (source && task.parent && task.parent === main?.dataset.watch) {
    source.dataset.watch = task.id;
    source.dataset.url = root.dataset.stream.replace("task.ID", `task.${task.id}`);
    watch(source);
  }
}

function isOver(state) {
  return !["waiting", "running"].includes(state);
}

function say(state) {
  status.textContent = STATES[state] ?? state;
  status.dataset.state = state;
  const cancel = root.querySelector("[data-cancel]");
  if (cancel) cancel.hidden = isOver(state);
}

function watch(section) {
  const steps = section.querySelector("[data-steps]");
  const answer = section.querySelector("[data-answer]");
  const source = new PolledEventSource(section.dataset.url);
  source.addEventListener("message", ({ data }) => {
    const step = JSON.parse(data);
    const item = stepItem(step);
    // What came, word for word, for whoever wants to compare it with what is stored.
    item.dataset.n = step.n;
    if (step.type === "final") {
      answer.replaceChildren(answerArticle(step.content));
      answer.dataset.n = step.n;
    } else steps.append(item);
    drawTimeline();
  });
  source.addEventListener("gap", ({ detail }) => {
    const text = `Steps ${detail.from} to ${detail.to ?? "?"} are gone (${detail.reason}).`;
    steps.append(stepItem({ type: "gap", content: text }));
  });
  source.addEventListener("end", ({ detail }) => {
    section.dataset.ended = detail?.status ?? "done";
    if (detail?.error) steps.append(stepItem({ type: "error", content: detail.error }));
    if (section === main) say(section.dataset.ended);
    drawTimeline();
  });
}

function drawTimeline() {
  const body = root.querySelector("[data-timeline]");
  if (!body || due) return;
  due = setTimeout(async () => {
    due = null;
    const answer = await fetch(`${root.dataset.base}${main.dataset.watch}/`, { headers: { Accept: "application/json" } }).catch(
      () => null,
    );
    if (!answer?.ok) return;
    const { timeline } = await answer.json();
    body.replaceChildren(
      ...timeline.map(({ at, who, what, sequence }) => {
        const row = document.createElement("tr");
        for (const text of [time.format(new Date(at)), who, what, sequence || ""]) {
          row.append(Object.assign(document.createElement("td"), { textContent: text }));
        }
        row.className = who;
        return row;
      }),
    );
  }, 400);
}
