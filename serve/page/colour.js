// From a weight to a strength of colour in [-1, 1]: logarithmic, 0 at weight 1, so that halving and doubling look alike.

export function strength(weight, least, greatest) {
  if (weight >= 1) return greatest > 1 ? Math.min(1, Math.log(weight) / Math.log(greatest)) : 0;
  const floor = Math.max(least, 0.01);
  return floor < 1 ? -Math.min(1, Math.log(Math.max(weight, floor)) / Math.log(floor)) : 0;
}

export function paint(element, weight, least, greatest) {
  const s = strength(weight, least, greatest);
  element.classList.toggle("low", s < 0);
  element.style.setProperty("--w", Math.abs(s).toFixed(3));
}
