import { toFragment } from "/page/link.js";
import { want } from "/checks/checks.js";

// A service that asks for a token: a link's view comes once it is given.
export default async function check() {
  const view = { problem: "Add.", first: "x = 1\n", second: "", options: { beta: 0.5, statistics: "batch" } };
  const page = new DOMParser().parseFromString(await (await fetch("/")).text(), "text/html");
  document.getElementById("tip").remove();
  document.getElementById("place").append(...page.body.children);
  history.replaceState(null, "", await toFragment(view));
  const real = window.fetch;
  const refusal = () => new Response('{"detail": "give a token"}', { status: 401, headers: { "content-type": "application/problem+json" } });
  window.fetch = async (path, init) => (path.startsWith("/v1/") && !init.headers.Authorization ? refusal() : real(path, init));
  await import("/page/app.js");
  const at = (id) => document.getElementById(id);
  await until(() => at("first").value === view.first && !at("key").hidden && at("state").textContent === "");
  want(at("result").hidden, true, "no result without a token");
  at("token").value = "of this reader";
  at("token").dispatchEvent(new Event("change"));
  await until(() => !at("result").hidden);
  want(at("result").hidden, false, "the result");
  want(at("beta").value, "0.5", "the link's option");
}

async function until(so) {
  for (let i = 0; i < 100 && !so(); i++) await new Promise((done) => setTimeout(done, 100));
}
