import { toFragment } from "/page/link.js";
import { opened, until } from "/checks/whole.js";
import { want } from "/checks/checks.js";

// A service that asks for a token: a link's view comes once it is given.
export default async function check() {
  const view = { problem: "Add.", first: "x = 1\n", second: "", options: { beta: 0.5, statistics: "batch" } };
  const real = window.fetch;
  const refusal = () => new Response('{"detail": "give a token"}', { status: 401, headers: { "content-type": "application/problem+json" } });
  const guarded = (path) => new URL(path, location).pathname.startsWith("/v1/");
  window.fetch = async (path, init) => (guarded(path) && !init.headers.Authorization ? refusal() : real(path, init));
  await opened(await toFragment(view));
  const at = (id) => document.getElementById(id);
  await until(() => at("first").value === view.first && !at("key").hidden && at("state").textContent === "");
  want(at("result").hidden, true, "no result without a token");
  at("token").value = "of this reader";
  at("token").dispatchEvent(new Event("change"));
  await until(() => !at("result").hidden);
  want(at("result").hidden, false, "the result");
  want(at("beta").value, "0.5", "the link's option");
}
