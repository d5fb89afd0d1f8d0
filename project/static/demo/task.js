import { follow } from "./meter.js";
import { stepItem, answerArticle } from "./steps.js";

const steps = document.querySelector("[data-steps]");
const answer = document.querySelector("[data-answer]");
const status = document.querySelector("[data-status]");

const ENDS = {
  done: "Answered. The channel is finished, and this page has stopped asking.",
  failed: "The agent stopped without an answer. The channel is finished.",
  cancelled: "Somebody has cancelled this. The channel is finished.",
};

const stream = follow(document.querySelector("[data-stream]"));

stream.addEventListener("message", ({ detail: { json } }) => {
  if (json === null) return;
  status.textContent = "The agent is at work.";
  if (json.type === "final") answer.replaceChildren(answerArticle(json.content));
  else steps.append(stepItem(json));
});
stream.addEventListener("end", ({ detail }) => {
  status.textContent = ENDS[detail?.status] ?? ENDS.done;
  if (detail?.error) answer.replaceChildren(answerArticle({ answer: detail.error, failed: true }));
});
stream.addEventListener("change", () => {
  if (stream.state === "over") status.textContent = "The browser has stopped asking. Reload the page.";
});
