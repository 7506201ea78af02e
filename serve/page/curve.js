// The value after each token, drawn under the program; pointing at it points at the token.

import { number } from "./text.js";

const SVG = "http://www.w3.org/2000/svg";
const WIDTH = 1000;
const HEIGHT = 140;
const LEFT = 52;
const RIGHT = 10;
const TOP = 12;
const BOTTOM = 12;

function svg(tag, attributes) {
  const made = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  return made;
}

// The common range of several programs' values, so that their curves can be compared.
export function range(items) {
  let [low, high] = [Infinity, -Infinity];
  for (const item of items) for (const { value } of item.tokens) [low, high] = [Math.min(low, value), Math.max(high, value)];
  const margin = (high - low || Math.abs(high) || 1) * 0.08;
  return [low - margin, high + margin];
}

// Round values between `low` and `high`, two to five of them, and how many decimals they have.
function ticks(low, high) {
  const least = (high - low) / 4;
  const power = 10 ** Math.floor(Math.log10(least));
  const step = [1, 2, 5, 10].map((factor) => factor * power).find((size) => size >= least);
  const first = Math.ceil(low / step);
  const count = Math.floor(high / step) - first + 1;
  const digits = Math.min(6, Math.max(0, -Math.floor(Math.log10(step) + 1e-9)));
  return [Array.from({ length: count }, (_, i) => (first + i) * step), digits];
}

export class Curve {
  constructor(name, item, [low, high], told) {
    this.values = item.tokens.map((token) => token.value);
    this.mean = item.mean_value;
    this.low = low;
    this.high = high;
    const first = number(this.values[0]);
    const last = number(this.values.at(-1));
    this.element = svg("svg", { class: "plot", role: "img", preserveAspectRatio: "none", "aria-label": `Value of solution ${name} token by token: from ${first} to ${last}, mean ${number(item.mean_value)}` });
    this.element.addEventListener("pointermove", (event) => told(this.#under(event)));
    this.element.addEventListener("pointerleave", () => told(null));
    new ResizeObserver(() => this.#draw()).observe(this.element);
    this.at = null;
  }

  #draw() {
    this.width = this.element.clientWidth || WIDTH;
    this.element.setAttribute("viewBox", `0 0 ${this.width} ${HEIGHT}`);
    const points = this.values.map((value, i) => `${this.#x(i).toFixed(1)},${this.#y(value).toFixed(1)}`);
    const floor = HEIGHT - BOTTOM;
    const parts = [];
    const [marks, digits] = ticks(this.low, this.high);
    for (const value of marks) {
      const y = this.#y(value);
      parts.push(svg("line", { class: "axis", x1: LEFT, x2: this.width - RIGHT, y1: y, y2: y }));
      const label = svg("text", { x: LEFT - 6, y: y + 4, "text-anchor": "end" });
      label.textContent = number(value, digits);
      parts.push(label);
    }
    const mean = this.#y(this.mean);
    parts.push(svg("polyline", { class: "line", points: points.join(" ") }));
    parts.push(svg("line", { class: "mean", x1: LEFT, x2: this.width - RIGHT, y1: mean, y2: mean }));
    this.line = svg("line", { class: "mark", y1: TOP, y2: floor, visibility: "hidden" });
    this.dot = svg("circle", { class: "dot", r: 4.5, visibility: "hidden" });
    this.element.replaceChildren(...parts, this.line, this.dot);
    this.mark(this.at);
  }

  mark(i) {
    this.at = i;
    if (!this.line) return;
    for (const part of [this.line, this.dot]) part.setAttribute("visibility", i === null ? "hidden" : "visible");
    if (i === null) return;
    const [x, y] = [this.#x(i), this.#y(this.values[i])];
    this.line.setAttribute("x1", x);
    this.line.setAttribute("x2", x);
    this.dot.setAttribute("cx", x);
    this.dot.setAttribute("cy", y);
  }

  #x(i) {
    const steps = Math.max(1, this.values.length - 1);
    return LEFT + ((this.width - LEFT - RIGHT) * i) / steps;
  }

  #y(value) {
    return TOP + ((HEIGHT - TOP - BOTTOM) * (this.high - value)) / (this.high - this.low);
  }

  #under(event) {
    const box = this.element.getBoundingClientRect();
    const share = (event.clientX - box.left - LEFT) / (this.width - LEFT - RIGHT);
    return Math.round(Math.min(1, Math.max(0, share)) * (this.values.length - 1));
  }
}
