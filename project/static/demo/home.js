import { follow } from "./meter.js";

follow(document.querySelector("[data-stream]"));
