// The page: what is asked, and what came back.

import { range } from "./curve.js";
import { fromFragment, toFragment } from "./link.js";
import { panel, Tip } from "./panel.js";
import { info, keepToken, score } from "./service.js";
import { element, number, percent } from "./text.js";

const at = (id) => document.getElementById(id);
const NUMBERS = ["lam", "beta", "min_weight", "max_weight"];
const CHOICES = ["credit", "statistics", "normalize"];
const SWITCHES = ["truncate"];
const tip = new Tip(at("tip"));
let asking = 0;
let served = null; // What serves, by its own account.

async function begin() {
  listen();
  await examples();
  await greet();
  await show(location.hash);
}

function listen() {
  at("ask").addEventListener("submit", (event) => {
    event.preventDefault();
    ask();
  });
  at("ask").addEventListener("keydown", (event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) at("ask").requestSubmit();
  });
  at("token").addEventListener("change", async () => {
    keepToken(at("token").value.trim());
    await greet();
    await show(location.hash);
  });
  at("link").addEventListener("click", async () => {
    await navigator.clipboard?.writeText(location.href);
    at("state").textContent = navigator.clipboard ? "Link copied." : "Copy the address of this page.";
  });
  addEventListener("hashchange", () => show(location.hash));
  addEventListener("scroll", () => tip.follow(), { passive: true, capture: true });
}

async function examples() {
  const all = await (await fetch(new URL("examples.json", import.meta.url))).json();
  for (const [i, example] of all.entries()) at("example").append(element("option", { value: i }, example.name));
  at("example").addEventListener("change", () => {
    const example = all[at("example").value];
    if (!example) return;
    fill(example);
    ask();
  });
}

// Who serves.
async function meet() {
  served = await info();
  const critic = served.critic;
  at("critic").replaceChildren("critic ", element("b", {}, critic.version), ` · ${served.backbone}, ${critic.dtype}`);
  at("critic").title = `fingerprint ${critic.fingerprint}`;
  at("statistics").querySelector("[value=ema]").disabled = served.ema === null;
}

// The same for the first time: its options go into the form.
async function greet() {
  try {
    await meet();
    for (const name of [...NUMBERS, ...CHOICES]) at(name).value = served.options[name];
    if (served.ema) at("statistics").value = "ema";
    at("key").hidden = true;
    refuse(null);
  } catch (error) {
    at("critic").textContent = error.status === 401 ? "asks for a token" : "not there";
    refuse(error);
  }
}

function view() {
  const options = Object.fromEntries(CHOICES.map((name) => [name, at(name).value]));
  for (const name of NUMBERS) if (at(name).value !== "") options[name] = Number(at(name).value);
  for (const name of SWITCHES) options[name] = at(name).checked;
  return { problem: at("problem").value, first: at("first").value, second: at("second").value, options };
}

function fill({ problem, first, second = "", options = {} }) {
  at("problem").value = problem;
  at("first").value = first;
  at("second").value = second;
  for (const [name, value] of Object.entries(options)) {
    if (SWITCHES.includes(name)) at(name).checked = value;
    else if ([...NUMBERS, ...CHOICES].includes(name)) at(name).value = value;
  }
}

async function show(fragment) {
  const found = await fromFragment(fragment);
  if (!found) return;
  fill(found);
  if (JSON.stringify(found) !== JSON.stringify(shown)) await ask();
}

let shown = null;

async function ask() {
  const wanted = view();
  const mine = ++asking;
  const late = () => mine !== asking;
  const responses = [wanted.first, wanted.second].filter((text) => text !== "");
  const items = responses.map((response) => ({ instruction: wanted.problem, response }));
  refuse(null);
  busy(true);
  at("state").textContent = "Scoring …";
  try {
    const answer = await score({ items, options: wanted.options }, (text) => late() || (at("state").textContent = text));
    if (answer.critic.fingerprint !== served?.critic.fingerprint) await meet(); // another one was rolled in
    if (late()) return;
    shown = wanted;
    const verdict = render(answer, { ...served.options, ...wanted.options });
    history.replaceState(null, "", await toFragment(wanted));
    at("link").disabled = false;
    at("state").textContent = verdict;
  } catch (error) {
    if (late()) return;
    if (error.status === undefined) throw error;
    refuse(error);
    at("state").textContent = "";
  } finally {
    if (!late()) busy(false);
  }
}

function busy(is) {
  at("score").disabled = is;
  at("ask").setAttribute("aria-busy", is);
  at("result").setAttribute("aria-busy", is);
}

function refuse(error) {
  at("problem-report").hidden = error === null;
  if (error === null) return;
  at("problem-report").textContent = error.message;
  if (error.status === 401) at("key").hidden = false;
}

// Returns what came out, in a sentence.
function render({ items }, options) {
  const bounds = [options.min_weight, options.max_weight];
  const common = range(items);
  at("least").textContent = number(bounds[0], 1);
  at("greatest").textContent = number(bounds[1], 1);
  at("panels").replaceChildren(...items.map((item, i) => panel("AB"[i], item, bounds, common, tip)));
  at("verdict").hidden = items.length < 2;
  at("empty").hidden = true;
  at("result").hidden = false;
  if (items.length === 2) {
    // The ranking loss says so: the logistic function of the difference of mean values. Other values are no log-odds.
    const difference = items[0].mean_value - items[1].mean_value;
    const probability = 1 / (1 + Math.exp(-difference));
    at("preference").textContent = served.ranks ? percent(probability) : number(difference);
    at("meaning").textContent = served.ranks ? "that A is the better one" : "mean value of A minus that of B";
    at("share").style.width = `${100 * probability}%`;
    at("bar").hidden = at("reason").hidden = !served.ranks;
    return `Both scored: ${at("preference").textContent} ${at("meaning").textContent}.`;
  }
  return `Scored: mean value ${number(items[0].mean_value)}.`;
}

begin();
