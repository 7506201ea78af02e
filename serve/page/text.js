// Numbers and pieces as a reader sees them.

const MINUS = "\u2212";

export const number = (x, digits = 3) => (x === null ? "–" : x.toFixed(digits).replace("-", MINUS));

export const percent = (p) => (p > 0.995 && p < 1 ? "> 99 %" : p < 0.005 && p > 0 ? "< 1 %" : `${Math.round(100 * p)} %`);

// White space made visible, for labels and tables; the program itself is shown as it is.
export const visible = (piece) =>
  piece.replaceAll("\n", "↵").replaceAll("\t", "⇥").replaceAll(" ", "·").replaceAll("\r", "␍") || "∅";

// The same for the ear.
export const spoken = (piece) =>
  piece.replace(/^ (?=\S)/, "").replace(/ +/g, (run) => (run.length > 1 ? ` ${run.length} spaces ` : " space ")).replaceAll("\n", " new line ").replaceAll("\t", " tab ").replace(/\s+/g, " ").trim() || "nothing visible";

export function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name === "class") made.className = value;
    else made.setAttribute(name, value);
  }
  made.append(...children);
  return made;
}
