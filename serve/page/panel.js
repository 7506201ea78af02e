// One solution: its figures, tokens, curve and table, all pointing at the same token.

import { Curve } from "./curve.js";
import { Heatmap } from "./heatmap.js";
import { element, number, visible } from "./text.js";

export function panel(name, item, bounds, range, tip) {
  const curve = new Curve(name, item, range, (i) => point(i, "curve"));
  const heatmap = new Heatmap(name, item, bounds, (i) => point(i, "heatmap"));
  const shownAs = [];
  heatmap.shown.forEach(({ numbers }, shown) => numbers.forEach((n) => (shownAs[n] = shown)));

  // `i` is the number of a token when the curve asks, of a shown piece when the heat map does.
  function point(i, from) {
    const shown = i === null || from === "heatmap" ? i : shownAs[i];
    if (from === "curve") heatmap.mark(shown);
    curve.mark(shown === null ? null : heatmap.shown[shown].numbers.at(-1));
    if (shown === null) tip.hide();
    else tip.show(heatmap.elements[shown], heatmap.shown[shown].numbers.map((n) => [n, item.tokens[n]]), item.tokens.length);
  }

  const figures = element("dl");
  const figure = (term, text) => figures.append(element("div", {}, element("dt", {}, term), element("dd", {}, text)));
  figure("mean value", number(item.mean_value));
  figure("tokens", item.response_tokens);
  figure("of prompt", item.prompt_tokens);
  const weights = item.tokens.map((token) => token.weight);
  figure("mean weight", number(weights.reduce((sum, w) => sum + w, 0) / weights.length, 2));
  const head = element("header", {}, element("h2", {}, `Solution ${name}`), figures);
  if (item.truncated) head.append(element("span", { class: "cut" }, "cut: longer than the critic reads"));
  const plot = element("div", { class: "curve" }, element("h3", {}, "value after each token; dashed: mean"), curve.element);
  return element("article", { class: "panel", "aria-label": `Solution ${name}` }, head, heatmap.element, plot, numbers(item));
}

// The same as a table, written when it is opened.
function numbers(item) {
  const box = element("div");
  const details = element("details", { class: "numbers" }, element("summary", {}, "Numbers"), box);
  details.addEventListener("toggle", () => {
    if (!details.open || box.childElementCount) return;
    const head = element("tr", {}, ...["#", "token", "value", "advantage", "weight"].map((t) => element("th", { scope: "col" }, t)));
    const rows = item.tokens.map((token, i) =>
      element("tr", {}, ...[String(i + 1), visible(token.piece), number(token.value, 4), number(token.advantage, 4), number(token.weight, 3)].map((t) => element("td", {}, t))));
    box.append(element("table", {}, element("thead", {}, head), element("tbody", {}, ...rows)));
  });
  return details;
}

export class Tip {
  constructor(box) {
    this.box = box;
  }

  hide() {
    this.box.hidden = true;
  }

  // Stay beside the token while the page, or the program in its box, scrolls.
  follow() {
    if (!this.box.hidden) this.#place();
  }

  show(beside, tokens, count) {
    this.beside = beside;
    const rows = [];
    for (const [i, token] of tokens.slice(0, 4)) {
      rows.push(["weight", number(token.weight)], ["advantage", number(token.advantage)], ["value", number(token.value)]);
      rows.push(["token", `${i + 1} of ${count}`]);
    }
    const table = element("table", {}, ...rows.map((row) => element("tr", {}, ...row.map((text) => element("td", {}, text)))));
    const piece = tokens[0][1].piece;
    this.box.replaceChildren(element("code", {}, piece === "" ? "end of the program" : visible(piece)), table);
    this.box.hidden = false;
    this.#place();
  }

  #place() {
    const at = this.beside.getClientRects()[0] ?? this.beside.getBoundingClientRect();
    const [width, height] = [this.box.offsetWidth, this.box.offsetHeight];
    const left = Math.max(8, Math.min(at.left, innerWidth - width - 8));
    const below = at.bottom + 8 + height < innerHeight;
    this.box.style.transform = `translate(${left}px, ${below ? at.bottom + 8 : Math.max(8, at.top - height - 8)}px)`;
  }
}
