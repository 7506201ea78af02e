// One program as coloured tokens. Tokens that only complete a character (an emoji cut into bytes) join the one before.
// The whole is a list box with one tab stop: arrow keys move among its tokens, and screen readers say each one's numbers.

import { paint } from "./colour.js";
import { element, number, spoken } from "./text.js";

// What is shown as one piece: its tokens' numbers in the answer.
export function gather(tokens) {
  const shown = [];
  tokens.forEach((token, i) => {
    const joins = token.piece === "" && token.end > token.start && shown.length > 0;
    if (joins) shown.at(-1).numbers.push(i);
    else shown.push({ piece: token.piece, numbers: [i], ends: token.piece === "" });
  });
  return shown;
}

export class Heatmap {
  // `told(index)` is called when the token at hand changes; null = none.
  constructor(name, item, bounds, told) {
    this.item = item;
    this.told = told;
    this.shown = gather(item.tokens);
    this.at = null;
    this.elements = this.shown.map((piece, i) => this.#token(name, piece, i, bounds));
    this.element = element("div", { class: "tokens", role: "listbox", tabindex: "0", "aria-label": `Tokens of solution ${name}`, "aria-orientation": "horizontal" });
    this.element.append(...this.elements);
    this.element.addEventListener("pointerover", (event) => this.#point(event));
    this.element.addEventListener("pointerleave", () => this.choose(null));
    this.element.addEventListener("pointerdown", (event) => this.#point(event));
    this.element.addEventListener("focus", () => this.at ?? (this.element.matches(":focus-visible") && this.choose(0)));
    this.element.addEventListener("blur", () => this.choose(null));
    this.element.addEventListener("keydown", (event) => this.#key(event));
  }

  #token(name, { piece, numbers, ends }, i, bounds) {
    const tokens = numbers.map((n) => this.item.tokens[n]);
    const weight = tokens.reduce((sum, token) => sum + token.weight, 0) / tokens.length;
    const made = element("span", { class: "t", role: "option", id: `${name}-${i}`, "aria-selected": "false", "aria-label": `${ends ? "end of the program" : spoken(piece)}, weight ${number(weight, 2)}, value ${number(tokens.at(-1).value)}, advantage ${number(tokens.at(-1).advantage)}` });
    made.textContent = ends ? "end" : piece;
    if (ends) made.classList.add("end");
    if (piece.includes("\n")) made.classList.add("line");
    made.dataset.i = i;
    paint(made, weight, ...bounds);
    return made;
  }

  // Show token `i` as the one at hand, without telling.
  mark(i) {
    if (this.at !== null) {
      this.elements[this.at].classList.remove("here");
      this.elements[this.at].setAttribute("aria-selected", "false");
    }
    this.at = i;
    if (i === null) {
      this.element.removeAttribute("aria-activedescendant");
      return;
    }
    this.elements[i].classList.add("here");
    this.elements[i].setAttribute("aria-selected", "true");
    this.element.setAttribute("aria-activedescendant", this.elements[i].id);
  }

  choose(i) {
    if (i === this.at) return;
    this.mark(i);
    this.told(i);
  }

  #point(event) {
    const token = event.target.closest(".t");
    if (token) this.choose(Number(token.dataset.i));
  }

  #key(event) {
    const last = this.elements.length - 1;
    const at = this.at ?? 0;
    const moves = { ArrowRight: at + 1, ArrowLeft: at - 1, Home: 0, End: last, ArrowDown: this.#line(at, 1), ArrowUp: this.#line(at, -1) };
    if (event.key === "Escape") this.choose(null);
    else if (event.key === "Enter") this.elements[at].scrollIntoView({ block: "center" });
    else if (event.key in moves) {
      this.choose(Math.min(last, Math.max(0, moves[event.key])));
      this.elements[this.at].scrollIntoView({ block: "nearest" });
    } else return;
    event.preventDefault();
  }

  // The token nearest in the next line of the screen in this direction.
  #line(from, direction) {
    const start = this.elements[from].getBoundingClientRect();
    let best = from;
    let line = null;
    for (let i = from + direction; i >= 0 && i < this.elements.length; i += direction) {
      const box = this.elements[i].getClientRects()[0];
      if (!box || Math.abs(box.top - start.top) < 4) continue;
      line ??= box.top;
      if (Math.abs(box.top - line) > 4) break;
      if (best === from || Math.abs(box.left - start.left) < Math.abs(this.elements[best].getClientRects()[0].left - start.left)) best = i;
    }
    return best;
  }
}
