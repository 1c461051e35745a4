// Places of the nodes of a level: dagre arranges one level at a time, and a long one wraps into columns.

import { cardOf, headWidth, labelOf, sizeOf } from "./cards.js";
import { folds } from "./tree.js";

const PAD = 18, HEAD = 34, GAP = 26, RANK = 30, CLOSE = 10, GUTTER = 44;

/** Lay out a node and what is open inside of it, for a window and what is shown. `node.size` is its size, `child.at` its centre in its parent's level. */
export function layOut(one, look) {
  if (one.clean && Object.keys(look).every((key) => one.clean[key] === look[key])) return;
  one.card = cardOf(one, look.overlay);
  one.clean = look;
  if (!folds(one) || !one.open) {
    one.size = sizeOf(one, one.card);
    return;
  }
  for (const child of one.children) layOut(child, look);
  const level = arranged(one, look);
  one.routes = level.routes;
  const notes = one.card.lines.filter((line) => line.kind === "note").length;
  const bar = one.card.share === undefined ? 0 : 8;
  const head = one.parent ? HEAD + bar + 15 * notes : 0;
  const width = Math.max(level.width + 2 * PAD, headWidth(one, one.card) + 32);
  const shift = { x: (width - level.width) / 2, y: head + (one.parent ? 6 : PAD) };
  for (const child of one.children) child.at = { x: child.at.x + shift.x, y: child.at.y + shift.y };
  for (const route of one.routes) moveRoute(route, shift);
  one.size = { width, height: level.height + shift.y + PAD };
}

function moveRoute(route, { x, y }) {
  route.points = route.points.map((point) => ({ x: point.x + x, y: point.y + y }));
  if (route.spot) route.spot = { x: route.spot.x + x, y: route.spot.y + y };
}

/** Forget the layout of a node and of those around it, because something inside has changed. */
export function disturb(one) {
  for (let node = one; node; node = node.parent) delete node.clean;
}

function arranged(parent, { aspect, shapes }) {
  const members = parent.children, known = new Map(members.map((member) => [member.id, member]));
  const links = parent.links.filter((link) => known.has(link.from) && known.has(link.to));
  const flowing = links.filter((link) => link.kind !== "state" && link.from !== link.to);
  for (const member of members) member.column = 0;
  for (const link of flowing) link.label = labelOf(link, shapes);
  let routes = ordered(members, flowing);
  const columns = wrapped(members, flowing, aspect);
  if (columns.length > 1) {
    routes = columns.flatMap((column) => ordered(column.members, flowing).map((route) => ({ ...route, column })));
    placed(columns);
    for (const route of routes) moveRoute(route, route.column);
    const crossing = flowing.filter((link) => known.get(link.from).column !== known.get(link.to).column);
    for (const [number, link] of crossing.entries()) {
      const from = known.get(link.from), to = known.get(link.to);
      const before = crossing.slice(0, number).filter((other) => other.to === link.to).length;
      const into = { x: to.at.x + Math.min(14 * before, to.size.width / 2 - 8), y: top(to) };
      routes.push({ ...link, points: across(from, to, columns, number, isFree(to, members) ? into : null), curve: false });
    }
  }
  const box = bounds(members, routes);
  const states = links.filter((link) => link.kind === "state");
  for (const [number, link] of states.entries()) {
    routes.push({ ...link, curve: false, points: back(known.get(link.from), known.get(link.to), box, number, members) });
  }
  const whole = bounds(members, routes);
  for (const member of members) member.at = { x: member.at.x - whole.left, y: member.at.y - whole.top };
  for (const route of routes) moveRoute(route, { x: -whole.left, y: -whole.top });
  return { routes, width: whole.right - whole.left, height: whole.bottom - whole.top };
}

/** Place members, and route the links between them; members without any links are a list. */
function ordered(members, links) {
  const ids = new Set(members.map((member) => member.id));
  const inside = links.filter((link) => ids.has(link.from) && ids.has(link.to));
  if (!links.length) return stacked(members, inside, CLOSE);
  const isChain = inside.length === members.length - 1 && inside.every((link, number) => link.from === members[number].id && link.to === members[number + 1].id);
  return isChain ? stacked(members, inside, RANK) : ranked(members, inside);
}

/** Place members one below the other. */
function stacked(members, links, gap) {
  const gaps = links.map((link) => Math.max(gap, link.label.height + 16));
  let y = 0;
  for (const [number, member] of members.entries()) {
    member.at = { x: 0, y: y + member.size.height / 2 };
    y += member.size.height + (gaps[number] ?? gap);
  }
  return links.map((link, number) => {
    const above = bottom(members[number]), below = top(members[number + 1]);
    return { ...link, curve: true, points: [{ x: 0, y: above }, { x: 0, y: below }], spot: link.label.width ? { x: 8, y: (above + below) / 2 } : null };
  });
}

/** Let dagre place members. */
function ranked(members, inside) {
  const graph = new dagre.graphlib.Graph({ multigraph: true });
  graph.setGraph({ rankdir: "TB", nodesep: GAP, ranksep: RANK, edgesep: 14 });
  for (const member of members) graph.setNode(member.id, { width: member.size.width, height: member.size.height });
  for (const [number, link] of [...inside.entries()].reverse()) {
    const { width, height } = link.label;
    const room = width ? { width: width + 8, height, labelpos: "r", labeloffset: 4 } : {};
    graph.setEdge(link.from, link.to, { weight: link.kind === "stream" ? 3 : 1, ...room }, String(number));
  }
  dagre.layout(graph);
  for (const member of members) {
    const { x, y } = graph.node(member.id);
    member.at = { x, y };
  }
  return inside.map((link, number) => {
    const { points, x, y, width } = graph.edge(link.from, link.to, String(number));
    return { ...link, points, curve: true, spot: width ? { x: x - width / 2 + 6, y } : null };
  });
}

/** The columns of a level: its members, cut where the fewest values cross if it is too tall for the window. */
function wrapped(members, links, aspect) {
  const box = bounds(members, []);
  const width = box.right - box.left, height = box.bottom - box.top;
  const wanted = Math.min(12, Math.round(Math.sqrt((aspect * height) / (width + GUTTER))));
  const count = height < 640 || members.length < 6 ? 1 : Math.max(1, wanted);
  const sorted = [...members].sort((a, b) => top(a) - top(b));
  const cuts = count === 1 ? [] : cutsOf(sorted, links, count, box);
  return [...cuts, Infinity].map((to, number) => {
    const from = cuts[number - 1] ?? -Infinity;
    const inside = members.filter((member) => member.at.y > from && member.at.y <= to);
    for (const member of inside) member.column = number;
    return { members: inside };
  });
}

/** Place the columns side by side, from the top. */
function placed(columns) {
  let left = 0;
  for (const column of columns) {
    const own = bounds(column.members, []);
    Object.assign(column, { x: left - own.left, y: -own.top, left, right: left + own.right - own.left, bottom: own.bottom - own.top });
    for (const member of column.members) member.at = { x: member.at.x + column.x, y: member.at.y + column.y };
    left = column.right + GUTTER;
  }
}

/** The heights at which a level is cut into `count` columns. */
function cutsOf(sorted, links, count, box) {
  const places = new Map(sorted.map((member) => [member.id, member]));
  const free = [];
  let below = -Infinity;
  for (const member of sorted) {
    if (top(member) > below + 1 && below > -Infinity) free.push((top(member) + below) / 2);
    below = Math.max(below, member.at.y + member.size.height / 2);
  }
  const crossing = (y) => links.filter((link) => places.get(link.from).at.y < y !== places.get(link.to).at.y < y).length;
  const cost = new Map(free.map((y) => [y, crossing(y)]));
  const height = (box.bottom - box.top) / count, cuts = [];
  for (let number = 1; number < count; number += 1) {
    const ideal = box.top + number * height;
    const near = free.filter((y) => Math.abs(y - ideal) < 0.45 * height && y > (cuts.at(-1) ?? -Infinity));
    const price = (y) => cost.get(y) * 60 + Math.abs(y - ideal);
    const best = near.sort((a, b) => price(a) - price(b))[0];
    if (best !== undefined) cuts.push(best);
  }
  return cuts;
}

/** The way from a column to a later one: down, through the gutter before the target's column, and in from above, at the point `into` if nothing is there, or else from the side. */
function across(from, to, columns, number, into) {
  const gutter = columns[to.column].left - GUTTER / 2 + 7 * ((number % 5) - 2);
  const next = to.column === from.column + 1;
  const lowest = Math.max(...columns.slice(from.column, to.column).map((column) => column.bottom));
  const last = from.at.y + from.size.height / 2 >= columns[from.column].bottom - 1;
  const above = Math.min(top(to), 0) - 18 - 5 * (number % 4);
  const start = last
    ? [{ x: from.at.x, y: from.at.y + from.size.height / 2 }, { x: from.at.x, y: lowest + 14 }]
    : [{ x: from.at.x + from.size.width / 2, y: from.at.y }];
  const leave = columns[from.column].right + GUTTER / 2 + 7 * ((number % 5) - 2);
  if (!last && !next) start.push({ x: leave, y: from.at.y }, { x: leave, y: lowest + 14 + 4 * (number % 4) });
  const turn = start.at(-1).y;
  const end = into
    ? [{ x: gutter, y: above }, { x: into.x, y: above }, into]
    : [{ x: gutter, y: to.at.y }, { x: to.at.x - to.size.width / 2, y: to.at.y }];
  return [...start, { x: gutter, y: turn }, ...end];
}

/** Whether nothing lies above a member in its column. */
function isFree(to, members) {
  const covers = (one) => Math.abs(one.at.x - to.at.x) < one.size.width / 2 + 6;
  return !members.some((one) => one !== to && one.column === to.column && one.at.y < to.at.y && covers(one));
}

/** The way of a value of the previous iteration: around the right side, below what is in the way, and in from above. */
function back(from, to, box, number, members) {
  const right = box.right + 14 + 9 * number, above = box.top - 12 - 7 * number;
  const into = to.at.x + (from === to ? to.size.width / 4 : 0);
  const out = { x: from.at.x + from.size.width / 2, y: from.at.y };
  const others = members.filter((one) => one !== from && one.at.x + one.size.width / 2 > from.at.x);
  const blocking = (y) => others.find((one) => Math.abs(one.at.y - y) < one.size.height / 2 + 4);
  const start = blocking(out.y) ? [{ x: from.at.x, y: bottom(from) }] : [out];
  let y = start[0].y + (start[0] === out ? 0 : 9 + 5 * number);
  for (let one = blocking(y); start[0] !== out && one; one = blocking(y)) y = bottom(one) + 9;
  if (start[0] !== out) start.push({ x: from.at.x, y });
  return [...start, { x: right, y }, { x: right, y: above }, { x: into, y: above }, { x: into, y: top(to) }];
}

function bottom(member) {
  return member.at.y + member.size.height / 2;
}

function top(member) {
  return member.at.y - member.size.height / 2;
}

function bounds(members, routes) {
  const xs = [], ys = [];
  for (const { at, size } of members) {
    xs.push(at.x - size.width / 2, at.x + size.width / 2);
    ys.push(at.y - size.height / 2, at.y + size.height / 2);
  }
  for (const { points, spot, label } of routes) {
    xs.push(...points.map((point) => point.x));
    ys.push(...points.map((point) => point.y));
    if (spot) xs.push(spot.x + label.width);
  }
  if (!xs.length) return { left: 0, right: 0, top: 0, bottom: 0 };
  return { left: Math.min(...xs), right: Math.max(...xs), top: Math.min(...ys), bottom: Math.max(...ys) };
}
