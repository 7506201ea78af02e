import { toFragment } from "/page/link.js";
import { opened, until } from "/checks/whole.js";
import { want } from "/checks/checks.js";

// Another critic is rolled in after the page has met the first; the new one does not rank.
export default async function check() {
  const view = { problem: "Add.", first: "x = 1\n", second: "pass\n", options: { min_weight: "", statistics: "batch" } };
  const real = window.fetch;
  const info = await (await real("/v1/info")).json();
  const first = { ...info, ranks: true, critic: { ...info.critic, version: "the first", fingerprint: "another" } };
  const second = { ...info, ranks: false, options: { ...info.options, min_weight: 0.7 } };
  const met = [first, second];
  window.fetch = async (path, init) =>
    String(path).endsWith("/v1/info") ? new Response(JSON.stringify(met.shift())) : real(path, init);
  await opened(await toFragment(view));
  const at = (id) => document.getElementById(id);
  await until(() => at("state").textContent.startsWith("Both"));
  want(at("critic").querySelector("b").textContent, info.critic.version, "the one that answered");
  want(at("critic").title, `fingerprint ${info.critic.fingerprint}`, "its fingerprint");
  want(at("least").textContent, "0.7", "its bound");
  want(at("min_weight").value, "", "what the reader wrote");
  want(/^Both scored: \S+ mean value of A minus that of B\.$/.test(at("state").textContent), true, at("state").textContent);
  want(at("bar").hidden && at("reason").hidden, true, "no probability");
  want(met.length, 0, "met twice");
}
