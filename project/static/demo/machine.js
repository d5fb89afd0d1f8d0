import { figure, percent, size } from "./figures.js";
import { follow } from "./meter.js";
import { Plot } from "./plot.js";

const plot = new Plot(
  document.querySelector('[data-plot="machine"]'),
  [
    { key: "cpu", name: "series-1" },
    { key: "memory", name: "series-2" },
  ],
  { seconds: 300, low: 100, unit: "%" },
);

const show = {
  machine({ at, cpu, load, memory, processes }) {
    figure("cpu", percent(cpu));
    load.forEach((value, index) => figure(["load1", "load5", "load15"][index], value.toFixed(2)));
    figure("memory", percent(memory.used / memory.total));
    figure("processes", processes);
    figure("used", `${size(memory.used)} of ${size(memory.total)}`);
    plot.push("cpu", at, 100 * cpu);
    plot.push("memory", at, (100 * memory.used) / memory.total);
  },
  server({ processes, descriptors, threads, memory, down }) {
    figure("serving", down ? "none" : (processes ?? 1)); // older events do not say
    figure("descriptors", down ? "down" : descriptors);
    figure("threads", down ? "down" : threads);
    figure("rss", down ? "down" : size(memory));
  },
};

follow(document.querySelector("[data-stream]")).addEventListener("message", ({ detail }) => {
  show[detail.channel](detail.json);
});
