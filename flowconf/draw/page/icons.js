// A small picture for each verb, drawn on a square of 16, so that forms differ without colour.

import { draw } from "./dom.js";

const ICONS = {
  loop: "M12.5 5.5A5 5 0 1 0 13 9M13 2.5v3.5h-3.5",
  map: "M3 3h10M3 8h10M3 13h10M6 1.5v3M10 6.5v3M6 11.5v3",
  switch: "M2 8h4l5-4.5M6 8h8M12 6l2 2-2 2",
  gate: "M2 3l5 5-5 5M2 8h5M7 8h7M11 5v6",
  split: "M8 2v3M8 5L3.5 9v4M8 5l4.500 4v4M8 5v8",
  fork: "M5 2v12M5 6c5 0 6 2 6 6M9 10l2 2.500 2-2.500",
  also: "M8 3v10M3 8h10",
  reuse: "M6.500 9.500l3-3M5 7L3.500 8.500a2.800 2.800 0 0 0 4 4L9 11M11 9l1.500-1.500a2.800 2.800 0 0 0-4-4L7 5",
  range: "M3 4h10M3 8h10M3 12h10",
};
const FROZEN = "M8 1.500v13M2.400 4.700l11.200 6.600M13.600 4.700L2.400 11.300M6 2.500l2 2 2-2M6 13.500l2-2 2 2";

/** The icon of a verb at a place; null for a plain step. */
export function verbIcon(verb, x, y) {
  return ICONS[verb] ? icon(ICONS[verb], x, y, "icon") : null;
}

/** The sign of a frozen member. */
export function frozenIcon(x, y) {
  return icon(FROZEN, x, y, "icon ice", "frozen");
}

function icon(path, x, y, className, title) {
  const shape = draw("path", { d: path });
  return draw("g", { class: className, transform: `translate(${x} ${y}) scale(0.875)` }, title && draw("title", {}, title), shape);
}
