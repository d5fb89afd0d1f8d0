import { follow } from "./meter.js";
import { stepItem, answerArticle } from "./steps.js";

const steps = document.querySelector("[data-steps]");
const answer = document.querySelector("[data-answer]");
const status = document.querySelector("[data-status]");

const stream = follow(document.querySelector("[data-stream]"));

stream.addEventListener("message", ({ detail: { json } }) => {
  if (json === null) return;
  if (json.type === "final") answer.replaceChildren(answerArticle(json.content));
  else steps.append(stepItem(json));
});
stream.addEventListener("end", ({ detail }) => {
  status.textContent =
    detail?.status === "failed"
      ? "The agent stopped without an answer. The channel is finished."
      : "Answered. The channel is finished, and this page has stopped asking.";
});
stream.addEventListener("change", () => {
  if (stream.state === "over") status.textContent = "The browser has stopped asking. Reload the page.";
});
