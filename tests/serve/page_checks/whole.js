// The whole page within the frame, at the view of a link.
export async function opened(fragment) {
  const page = new DOMParser().parseFromString(await (await fetch("/")).text(), "text/html");
  document.getElementById("tip").remove();
  document.getElementById("place").append(...page.body.children);
  history.replaceState(null, "", fragment);
  await import("/page/app.js");
}

export async function until(so) {
  for (let i = 0; i < 100 && !so(); i++) await new Promise((done) => setTimeout(done, 100));
}
