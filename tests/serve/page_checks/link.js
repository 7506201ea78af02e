import { fromFragment, toFragment } from "/page/link.js";
import { strength } from "/page/colour.js";
import { gather } from "/page/heatmap.js";
import { want, sample } from "/checks/checks.js";

export default async function check() {
  const view = { problem: "é 👧 \u0000 <b>", first: "x = 1\n".repeat(4000), second: "", options: { lam: 0.5, statistics: "batch" } };
  const fragment = await toFragment(view);
  want(JSON.stringify(await fromFragment(fragment)), JSON.stringify(view), "there and back");
  want(fragment.length < 400, true, `packed: ${fragment.length}`);
  for (const broken of ["", "#", "#v1=", "#v1=AAAA", "#v2=" + fragment.slice(4), fragment.slice(0, -9)]) want(await fromFragment(broken), null, broken);
  want(strength(1, 0.1, 3), 0, "one is colourless");
  want(strength(3, 0.1, 3), 1, "the greatest");
  want(strength(0.1, 0.1, 3), -1, "the least");
  want(strength(0, 0, 3), -1, "zero");
  want(strength(5, 0.1, 1), 0, "nothing above one");
  const emoji = [sample("a", 0), { ...sample("👧", 1), end: 2 }, { ...sample("", 2), start: 1, end: 2 }, { ...sample("", 3), start: 2, end: 2 }];
  want(JSON.stringify(gather(emoji).map((shown) => shown.numbers)), "[[0],[1,2],[3]]", "parts of a character");
}
