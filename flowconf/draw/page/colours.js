// The colours of runs, and the letters that name them beside.

const NAMED = 6, GOLDEN_ANGLE = 137.508;

/** The value of a variable of the style. */
export function variable(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(name).trim();
}

/** The colour of a run by its number: that of the style, and then hues that are far from those before. */
export function colourOf(number) {
  if (number < NAMED) return variable(`--curve${number + 1}`);
  return `hsl(${(number * GOLDEN_ANGLE) % 360} 55% ${variable("--curve-light")})`;
}

/** A, B, ... Z, 27, 28, ... */
export function letterOf(number) {
  return number < 26 ? String.fromCharCode(65 + number) : String(number + 1);
}
