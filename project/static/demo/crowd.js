import { figure } from "./figures.js";
import { follow } from "./meter.js";
import { Plot } from "./plot.js";

const plot = new Plot(
  document.querySelector('[data-plot="crowd"]'),
  [
    { key: "readers", name: "series-1" },
    { key: "descriptors", name: "series-2" },
  ],
  { seconds: 180, low: 20 },
);
const [mine, stats] = [...document.querySelectorAll("[data-stream]")].map(follow);
const nobody = document.querySelector("[data-nobody]");
const SILENT_MS = 5000;
let lastSeen = 0; // when the crowd last said something, by the producers' clock
const whole = new Intl.NumberFormat("en");

const show = {
  "crowd.stats"(crowd) {
    figure("readers", crowd.readers);
    figure("rate", crowd.events_per_second);
    figure("lag", `${whole.format(crowd.lag_ms)} / ${whole.format(crowd.lag_p95_ms)}`);
    figure("connections", crowd.connections);
    figure("wrong", `${whole.format(crowd.lost)} / ${whole.format(crowd.repeated)}`);
    document.querySelector("[data-bad]").classList.toggle("bad", crowd.lost + crowd.repeated > 0);
    lastSeen = crowd.clients > 0 ? crowd.at : 0;
    plot.push("readers", crowd.at, crowd.readers);
  },
  server({ at, descriptors, down }) {
    // A crowd that was killed does not say goodbye.
    const here = at - lastSeen < SILENT_MS;
    nobody.hidden = here;
    if (!here) figure("readers", 0);
    figure("descriptors", down ? "down" : descriptors);
    plot.push("descriptors", at, down ? 0 : descriptors);
  },
};

stats.addEventListener("message", ({ detail }) => show[detail.channel](detail.json));

// The buttons answer in place; without this script they are plain forms.
const answer = document.querySelector("main [data-answer]");
const cut = document.querySelector("[data-cut]");
cut.hidden = false;
cut.elements.client.value = mine.client;

for (const form of document.querySelectorAll("form[data-say]")) {
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    const { submitter } = event;
    answer.textContent = "…";
    try {
      const response = await fetch(form.action, {
        method: "POST",
        body: new FormData(form, submitter),
        headers: { Accept: "application/json" },
      });
      const { message } = await response.json();
      answer.textContent = message;
      if (response.ok && submitter.name === "preset") {
        for (const each of form.querySelectorAll("button")) {
          each.setAttribute("aria-pressed", String(each === submitter));
        }
      }
    } catch {
      answer.textContent = "The server did not answer. It may be restarting: try again in a moment.";
    }
  });
}
