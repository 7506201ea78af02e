import { panel, Tip } from "/page/panel.js";
import { range } from "/page/curve.js";
import { want, sample } from "/checks/checks.js";

export default function check() {
  const tokens = Array.from({ length: 2000 }, (_, i) => sample(i % 12 === 11 ? "\n    " : ` token${i % 7}`, i));
  const item = { response: "", mean_value: 0, prompt_tokens: 3, response_tokens: 2000, truncated: true, tokens };
  const began = performance.now();
  const made = panel("A", item, [0.1, 3], range([item]), new Tip(document.getElementById("tip")));
  document.getElementById("place").append(made);
  made.getBoundingClientRect();
  const milliseconds = performance.now() - began;
  want(made.querySelectorAll("[role=option]").length, 2000, "options");
  want(milliseconds < 3000, true, `2,000 tokens in ${milliseconds} ms`);
  want(made.textContent.includes("cut"), true, "says that it was cut");
}
