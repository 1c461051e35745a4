// The map: the layout of a tree as SVG.

import { widthOf } from "./cards.js";
import { draw } from "./dom.js";
import { frozenIcon, verbIcon } from "./icons.js";
import { full } from "./numbers.js";
import { folds } from "./tree.js";

/** The elements of the open part of a tree, below one group. `state` has the selection, the overlay and what is shown. */
export function mapOf(root, state) {
  const group = draw("g", { role: "tree", "aria-label": root.name });
  inside(group, root, state);
  return group;
}

function inside(group, parent, state) {
  const faded = new Set(state.traced && parent.children.filter((child) => !state.traced.has(child)).map((child) => child.id));
  for (const route of parent.routes) group.append(edge(route, state, faded.has(route.from) || faded.has(route.to)));
  for (const child of parent.children) group.append(member(child, state));
  for (const route of parent.routes) if (route.label) group.append(...label(route));
}

function member(one, state) {
  const { width, height } = one.size;
  const selected = state.selected === one;
  const card = one.card.shape === "card";
  const names = ["member", one.kind, one.verb === "map" ? "map-verb" : one.verb, one.frozen && "frozen", one.open && "open", one.mark && `marked mark-${one.mark.kind}`, selected && "selected", state.found?.has(one) && "found", state.traced && !state.traced.has(one) && "faded"];
  const group = draw("g", {
    class: names.filter(Boolean).join(" "),
    transform: `translate(${one.at.x - width / 2} ${one.at.y - height / 2})`,
    "data-id": one.id,
    role: "treeitem",
    tabindex: selected ? "0" : "-1",
    "aria-expanded": folds(one) ? String(one.open) : null,
    "aria-selected": String(selected),
    "aria-label": spoken(one),
  });
  if (one.card.shape === "joint") group.append(joint(one));
  else if (one.card.shape === "pill") group.append(...pill(one));
  else group.append(...(card && one.open ? box(one, state) : leaf(one)));
  if (one.mark) group.append(draw("text", { class: "mark", x: width - 10, y: height + 4, "text-anchor": "end" }, one.mark.kind));
  return group;
}

function leaf(one) {
  const { width, height } = one.size, parts = [];
  if (one.repeat) for (const shift of [8, 4]) parts.push(draw("rect", { class: "card behind", x: shift, y: -shift, width, height, rx: 7 }));
  parts.push(draw("rect", { class: "card", width, height, rx: 7 }));
  if (folds(one)) parts.push(draw("rect", { class: "more", x: 3, y: 3, width: width - 6, height: height - 6, rx: 5 }));
  parts.push(...head(one, 21), ...rows(one, 40));
  if (one.card.share !== undefined) parts.push(...bar(one));
  return parts;
}

function box(one, state) {
  const { width, height } = one.size, parts = [];
  if (one.repeat) for (const shift of [8, 4]) parts.push(draw("rect", { class: "box behind", x: shift, y: -shift, width, height, rx: 10 }));
  parts.push(draw("rect", { class: "box", width, height, rx: 10 }), ...head(one, 22));
  let y = one.card.share === undefined ? 39 : 47;
  for (const line of one.card.lines.filter((line) => line.kind === "note")) {
    parts.push(draw("text", { class: "note", x: 14, y }, line.text));
    y += 15;
  }
  if (one.card.share !== undefined) parts.push(...bar(one));
  inside({ append: (...made) => parts.push(...made) }, one, state);
  return parts;
}

function head(one, y) {
  const { card } = one, parts = [];
  let x = 12;
  if (folds(one)) {
    const path = one.open ? "M3 6l5 5 5-5" : "M6 3l5 5-5 5";
    const hit = draw("rect", { x: 4, y: y - 17, width: 24, height: 24, class: "hit" });
    parts.push(draw("g", { class: "fold" }, hit, draw("path", { d: path, transform: `translate(${x - 3} ${y - 12}) scale(0.9)` })));
    x += 18;
  }
  const name = (text, kind) => {
    parts.push(draw("text", { class: kind, x, y }, text));
    x += widthOf(text, kind === "verb" ? "small" : "name") + 8;
  };
  const icon = verbIcon(one.kind === "range" ? "range" : one.verb, x, y - 12);
  if (icon) {
    parts.push(icon);
    x += 18;
  }
  if (card.verb) name(card.verb, "verb");
  name(card.name, "name");
  if (one.repeat) name(`× ${one.repeat}`, "repeat");
  if (one.open && one.source_name) {
    parts.push(draw("text", { class: "note", x, y }, one.source_name));
    x += widthOf(one.source_name, "small") + 8;
  }
  if (one.tag) {
    const width = widthOf(one.tag, "small") + 12;
    parts.push(draw("rect", { class: "tag", x, y: y - 12, width, height: 16, rx: 8 }), draw("text", { class: "small", x: x + 6, y: y - 0.5 }, one.tag));
    x += width + 8;
  }
  const right = one.size.width - 12;
  const figure = draw("text", { class: "figure", x: right, y }, card.figure);
  const left = right - (card.figure ? widthOf(card.figure, "small") + 8 : 0);
  if (one.frozen) parts.push(frozenIcon(left - 13, y - 12));
  if (card.figure) parts.push(figure);
  return parts;
}

function rows(one, y) {
  return one.card.lines.map((line, number) => draw("text", { class: line.kind, x: 12, y: y + 16 * number }, line.text));
}

function bar(one) {
  const { width, height } = one.size;
  const length = Math.max(one.card.share > 0 ? 2 : 0, (width - 24) * Math.min(1, one.card.share));
  const y = one.open ? 29 : height - 8;
  return [
    draw("rect", { class: "track", x: 12, y, width: width - 24, height: 3, rx: 1.5 }),
    draw("rect", { class: "share", x: 12, y, width: length, height: 3, rx: 1.5 }),
  ];
}

function pill(one) {
  const { width, height } = one.size;
  if (!one.card.label) return [draw("circle", { class: "dot", cx: width / 2, cy: height / 2, r: 3.5 })];
  return [
    draw("rect", { class: "pill", width, height, rx: height / 2 }),
    draw("text", { class: "small", x: width / 2, y: 15, "text-anchor": "middle" }, one.card.label),
  ];
}

function joint(one) {
  const { width, height } = one.size;
  return draw("g", {}, draw("rect", { class: "joint", width, height, rx: 12 }), draw("text", { class: "sign", x: width / 2, y: 16.5, "text-anchor": "middle" }, one.name));
}

function edge(route, state, faded) {
  const touches = state.selected && [route.from, route.to].includes(state.selected.id);
  const title = [route.name, route.shape].filter(Boolean).join("  ");
  const path = draw("path", { class: "edge", d: route.curve ? curved(route.points) : rounded(route.points), "marker-end": "url(#arrow)" });
  return draw("g", { class: `link ${route.kind}${touches ? " touched" : ""}${faded ? " faded" : ""}`, "data-from": route.from, "data-to": route.to }, title && draw("title", {}, title), path);
}

function label(route) {
  const { points, spot } = route, end = points.at(-1);
  const sideways = end.y === points.at(-2).y;
  const place = spot ?? (sideways ? { x: end.x - 12, y: end.y - 9, "text-anchor": "end" } : { x: end.x + 6, y: end.y - 9 });
  const { texts } = route.label;
  return texts.map((text, number) => draw("text", { class: "label", ...place, y: place.y + 4 + 14 * (number - (texts.length - 1) / 2) }, text));
}

/** A smooth line through points that go downwards. */
function curved(points) {
  const [first, ...rest] = points;
  let path = `M${spot(first)}`, before = first;
  for (const point of rest) {
    const half = (point.y - before.y) / 2;
    path += `C${spot({ x: before.x, y: before.y + half })} ${spot({ x: point.x, y: point.y - half })} ${spot(point)}`;
    before = point;
  }
  return path;
}

/** A line of straight parts with round corners. */
function rounded(points) {
  let path = `M${spot(points[0])}`;
  for (let number = 1; number < points.length - 1; number += 1) {
    const corner = points[number];
    path += `L${spot(toward(corner, points[number - 1]))}Q${spot(corner)} ${spot(toward(corner, points[number + 1]))}`;
  }
  return `${path}L${spot(points.at(-1))}`;
}

function toward(from, to) {
  const length = Math.hypot(to.x - from.x, to.y - from.y);
  const part = length ? Math.min(8, length / 2) / length : 0;
  return { x: from.x + (to.x - from.x) * part, y: from.y + (to.y - from.y) * part };
}

function spot({ x, y }) {
  return `${Math.round(10 * x) / 10} ${Math.round(10 * y) / 10}`;
}

/** A member in words, for readers that speak. */
function spoken(one) {
  const words = [one.name, one.card.verb, ...(one.calls ?? []), one.repeat && `${one.repeat} copies`, one.shape];
  return [...words, one.parameters && `${full(one.parameters)} parameters`, one.frozen && "frozen", one.mark?.kind].filter(Boolean).join(", ");
}

/** The nodes that the map shows. */
export function* visible(one) {
  if (one.parent) yield one;
  if (one.open) for (const child of one.children) yield* visible(child);
}

/** The place of a node on the map: its upper left corner and its size. */
export function placeOf(one) {
  let x = 0, y = 0;
  for (let node = one; node.parent; node = node.parent) {
    x += node.at.x - node.size.width / 2;
    y += node.at.y - node.size.height / 2;
  }
  return { x, y, ...one.size };
}

/** The next of some nodes from one of them in a direction: the nearest of those that lie there, or itself. */
export function nextTo(from, nodes, dx, dy) {
  const centre = (one) => ({ x: placeOf(one).x + one.size.width / 2, y: placeOf(one).y + (one.open ? 12 : one.size.height / 2) });
  const here = centre(from);
  const far = (one) => {
    const there = centre(one), along = (there.x - here.x) * dx + (there.y - here.y) * dy;
    const off = Math.abs((there.x - here.x) * dy) + Math.abs((there.y - here.y) * dx);
    return one === from || along < 4 ? Infinity : along + 2.5 * off;
  };
  return nodes.reduce((best, one) => (far(one) < far(best) ? one : best), from);
}
