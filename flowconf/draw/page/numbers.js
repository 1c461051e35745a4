// Numbers as they are shown.

/** A count in three digits: 27.5 k, 1.20 M. */
export function short(count) {
  if (count < 1000) return String(Math.round(count * 100) / 100);
  const units = ["", " k", " M", " G", " T"];
  const power = Math.min(units.length - 1, Math.floor(Math.log10(count) / 3));
  return Number((count / 1000 ** power).toPrecision(3)) + units[power];
}

/** A count with all its digits: 27,530. */
export function full(count) {
  return count.toLocaleString("en-US");
}

/** A share between 0 and 1 as a percentage. */
export function percent(share) {
  return share > 0 && share < 0.001 ? "<0.1\u00a0%" : `${Number((100 * share).toPrecision(share >= 0.1 ? 3 : 2))}\u00a0%`;
}

/** A measured number in four digits; with an exponent if `size`, that of the numbers beside it, is far from 1. */
export function figure(value, size = Math.abs(value)) {
  return value !== 0 && (size < 1e-3 || size >= 1e6) ? value.toExponential(2) : digits(value, 4);
}

/** A number in at most so many digits. */
export function digits(value, most) {
  return String(Number(value.toPrecision(most)));
}

/** The numbers of an axis, all with an exponent or none; "" for null. */
export function ticks(values) {
  const size = Math.max(...values.map(Math.abs));
  return values.map((value) => (value === null ? "" : figure(value, size)));
}
