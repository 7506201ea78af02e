// Asking the service. Errors are thrown as Refusal, with the problem document's text.

const KEY = "wmtp-token";
// Where the service answers: "/", or what a proxy or Serve puts in front of it.
const ROOT = new URL("..", import.meta.url);
export const at = (path) => new URL(path.slice(1), ROOT).href;

export class Refusal extends Error {
  constructor(status, message, retryAfter = 0) {
    super(message);
    this.status = status;
    this.retryAfter = retryAfter;
  }
}

export function keepToken(token) {
  if (token) sessionStorage.setItem(KEY, token);
  else sessionStorage.removeItem(KEY);
}

async function ask(path, body) {
  const headers = {};
  const token = sessionStorage.getItem(KEY);
  if (token) headers["Authorization"] = `Bearer ${token}`;
  if (body !== undefined) headers["Content-Type"] = "application/json";
  let answer;
  try {
    answer = await fetch(at(path), { method: body === undefined ? "GET" : "POST", headers, body: body && JSON.stringify(body) });
  } catch {
    throw new Refusal(0, "The service cannot be reached.");
  }
  if (answer.ok) return answer.json();
  let detail = answer.statusText;
  if ((answer.headers.get("content-type") || "").includes("json")) detail = (await answer.json()).detail;
  throw new Refusal(answer.status, detail, Number(answer.headers.get("retry-after")) || 0);
}

// A busy service says when to come again: do so a few times before telling the reader.
async function patiently(path, body, told, tries = 4) {
  for (let left = tries; ; left--) {
    try {
      return await ask(path, body);
    } catch (error) {
      if (![429, 500, 503].includes(error.status) || left <= 1) throw error;
      const seconds = Math.max(1, error.retryAfter) + Math.random();
      told(`The service is busy; trying again in ${Math.ceil(seconds)} s …`);
      await new Promise((done) => setTimeout(done, 1000 * seconds));
    }
  }
}

export const info = () => ask("/v1/info");
export const score = (request, told) => patiently("/v1/score", request, told);
