// A small line plot over time, in SVG. Series have a key, a label and a CSS class.

const SVG = "http://www.w3.org/2000/svg";
const MARGIN = { top: 12, right: 12, bottom: 24, left: 46 };
const whole = new Intl.NumberFormat("en");

export class Plot {
  constructor(svg, series, { seconds, low = null, unit = "" }) {
    this.svg = svg;
    this.series = series.map((each) => ({ ...each, points: [] }));
    this.seconds = seconds;
    this.low = low; // the least that the vertical axis reaches up to
    this.unit = unit;
    this.ahead = null; // the producer's clock less ours
    new ResizeObserver(() => this.draw()).observe(svg);
    setInterval(() => this.draw(), 1000);
  }

  // Take a value; `at` is the producer's clock in milliseconds.
  push(key, at, value) {
    const { points } = this.series.find((each) => each.key === key);
    points.push([at, value]);
    const ahead = at - Date.now();
    this.ahead = this.ahead === null ? ahead : Math.max(this.ahead, ahead);
    const oldest = at - this.seconds * 1000 - 5000;
    while (points.length && points[0][0] < oldest) points.shift();
  }

  draw() {
    const { clientWidth: width, clientHeight: height } = this.svg;
    if (!width || !height) return;
    const right = width - MARGIN.right;
    const bottom = height - MARGIN.bottom;
    const now = Date.now() + (this.ahead ?? 0);
    const from = now - this.seconds * 1000;
    const highest = Math.max(this.low ?? 1, ...this.series.flatMap((s) => s.points.map((p) => p[1])));
    const step = niceStep(highest / 4);
    const top = step * Math.ceil(highest / step);
    const x = (at) => MARGIN.left + ((at - from) / (now - from)) * (right - MARGIN.left);
    const y = (value) => bottom - (value / top) * (bottom - MARGIN.top);

    const parts = [];
    for (let value = 0; value <= top + step / 2; value += step) {
      parts.push(make("line", { class: "grid", x1: MARGIN.left, x2: right, y1: y(value), y2: y(value) }));
      parts.push(text(`${whole.format(value)}${this.unit}`, { class: "tick-y", x: MARGIN.left - 8, y: y(value) + 4 }));
    }
    const minutes = this.seconds / 60;
    const every = width < 480 && minutes > 3 ? 2 : 1;
    for (let minute = 0; minute <= minutes; minute += every) {
      const label = minute ? `−${minute} min` : "now";
      const anchor = minute === minutes ? "start" : minute ? "middle" : "end";
      const place = MARGIN.left + (1 - minute / minutes) * (right - MARGIN.left);
      parts.push(text(label, { class: `tick-x ${anchor}`, x: place, y: height - 6 }));
    }
    for (const { points, name } of this.series) {
      const inside = points.filter(([at]) => at >= from);
      if (inside.length) parts.push(make("path", { class: `line ${name}`, d: trace(inside, x, y) }));
    }
    this.svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
    this.svg.replaceChildren(...parts);
  }
}

// A pause of more than three seconds breaks the line: nothing was measured there.
function trace(points, x, y) {
  let before = -Infinity;
  return points
    .map(([at, value]) => {
      const verb = at - before > 3000 ? "M" : "L";
      before = at;
      return `${verb}${x(at).toFixed(1)} ${y(value).toFixed(1)}`;
    })
    .join("");
}

function niceStep(rough) {
  const power = 10 ** Math.floor(Math.log10(Math.max(rough, 1)));
  return [1, 2, 2.5, 5, 10].map((each) => each * power).find((each) => each >= rough && Number.isInteger(each));
}

function make(name, attributes) {
  const element = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  return element;
}

function text(content, attributes) {
  const element = make("text", attributes);
  element.textContent = content;
  return element;
}
