// What the checks share: a wish, a report, and a token.

const wrong = [];

export function want(found, wanted, what) {
  if (found !== wanted) wrong.push(`${what}: ${found}, not ${wanted}`);
}

export async function report(checks) {
  try {
    await checks();
  } catch (error) {
    wrong.push(error.stack);
  }
  document.getElementById("found").textContent = wrong.join("\n") || "as wanted";
}

export const sample = (piece, i) => ({
  token_id: i, piece, start: i, end: i + (piece ? 1 : 0), value: Math.sin(i / 9), advantage: Math.cos(i), weight: 1 + Math.sin(i) * 0.8,
});
