// How many levels of a graph are unfolded at first.

import { cardOf, sizeOf } from "./cards.js";
import { folds, isPackaged } from "./tree.js";

const SMALLEST = 0.72, TRIES = 60;

/** Unfold as many levels below `root` as fit into the drawing `svg` and stay legible; `arrange` lays them out. */
export function unfoldWhatFits(root, svg, setOpen, arrange) {
  const room = (svg.clientWidth * svg.clientHeight) / SMALLEST ** 2;
  root.open = true;
  arrange();
  let tries = TRIES;
  let level = root.children;
  while (level.length && tries > 0) {
    for (const one of level) {
      if (!folds(one) || isPackaged(one) || tries <= 0 || area(root.size) + areaInside(one) > room) continue;
      tries -= 1;
      setOpen(one, true);
      arrange();
      const scale = Math.min((svg.clientWidth - 48) / root.size.width, (svg.clientHeight - 48) / root.size.height);
      if (scale < SMALLEST) setOpen(one, false);
    }
    level = level.filter((one) => one.open).flatMap((one) => one.children);
  }
  arrange();
}

function area({ width, height }) {
  return width * height;
}

/** The area of the cards inside of a node. */
function areaInside(one) {
  return one.children.reduce((sum, child) => sum + area(sizeOf(child, cardOf(child))), 0);
}
