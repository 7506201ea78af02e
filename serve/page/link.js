// A view in the fragment of its address: what was asked, packed. Nothing of it reaches a server's log.

async function through(bytes, stream) {
  const packed = new Blob([bytes]).stream().pipeThrough(stream);
  return new Uint8Array(await new Response(packed).arrayBuffer());
}

export async function toFragment(view) {
  const bytes = await through(new TextEncoder().encode(JSON.stringify(view)), new CompressionStream("deflate-raw"));
  let binary = "";
  for (let i = 0; i < bytes.length; i += 8192) binary += String.fromCharCode(...bytes.subarray(i, i + 8192));
  return "#v1=" + btoa(binary).replaceAll("+", "-").replaceAll("/", "_").replaceAll("=", "");
}

// The view, or null where the fragment holds none that can be read.
export async function fromFragment(fragment) {
  const found = /^#v1=([\w-]+)$/.exec(fragment);
  if (!found) return null;
  try {
    const binary = atob(found[1].replaceAll("-", "+").replaceAll("_", "/"));
    const bytes = Uint8Array.from(binary, (c) => c.charCodeAt(0));
    const view = JSON.parse(new TextDecoder().decode(await through(bytes, new DecompressionStream("deflate-raw"))));
    const texts = [view.problem, view.first, view.second].every((text) => typeof text === "string");
    return texts && typeof view.options === "object" ? view : null;
  } catch {
    return null;
  }
}
