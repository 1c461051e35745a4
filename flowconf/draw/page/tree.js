// The members of a graph as a tree of nodes. A level with many members is divided into ranges, which fold like graphs.

const MOST = 40, FEWEST = 3;

/** The tree of a picture: `root`, and every node by its id; `marks` are what is said about some, and `foldsRest` folds what is far from them. */
export function treeOf(whole, marks = {}, foldsRest = false) {
  const nodes = new Map();
  const root = node(whole, null, nodes);
  for (const [id, mark] of Object.entries(marks)) {
    const one = nodes.get(id);
    if (one) one.mark = mark;
  }
  if (foldsRest) foldUnmarked(root, nodes);
  return { root, nodes };
}

function node(member, parent, nodes) {
  const made = { ...member, parent, depth: parent ? parent.depth + 1 : 0, children: [], links: [], open: false };
  made.name ??= "";
  made.parameters ??= 0;
  if (made.kind === "module") made.place = parent.place;
  made.copies = (parent?.copies ?? 1) * (member.verb ? member.repeat ?? 1 : 1);
  nodes.set(made.id, made);
  if (member.inside) {
    made.children = member.inside.members.map((inner) => node(inner, made, nodes));
    made.links = member.inside.edges;
    made.all = made.links;
    divide(made, nodes);
  }
  delete made.inside;
  return made;
}

/** Divide the steps of a long level into ranges, so that each level of the tree has at most `MOST` of them. */
function divide(parent, nodes) {
  const steps = parent.children.filter((child) => child.kind === "step" || child.kind === "range");
  if (steps.length <= MOST) return;
  const size = Math.ceil(steps.length ** (1 / Math.ceil(Math.log(steps.length) / Math.log(MOST))));
  const parts = [];
  for (let first = 0; first < steps.length; first += size) parts.push(steps.slice(first, first + size));
  gather(parent, parts, nodes);
  divide(parent, nodes);
}

/** Fold runs of steps without marks, apart from those beside marked ones, into ranges, wherever something is marked. */
function foldUnmarked(parent, nodes) {
  const steps = parent.children.filter((child) => child.kind === "step" || child.kind === "range");
  const isMarked = (one) => one && (one.mark || one.children.some(isMarked));
  for (const step of steps.filter((one) => one.children.some(isMarked))) foldUnmarked(step, nodes);
  if (!steps.some(isMarked)) return;
  const parts = [];
  let part = [];
  for (const [at, step] of steps.entries()) {
    if ([steps[at - 1], step, steps[at + 1]].some(isMarked)) part = [];
    else if (part.push(step) === 1) parts.push(part);
  }
  gather(parent, parts.filter(({ length }) => length >= FEWEST), nodes);
}

/** Put steps of a level that follow each other into a range of their own, for each of `parts`. */
function gather(parent, parts, nodes) {
  const home = new Map();
  for (const part of parts) {
    const range = {
      ...{ id: `${part[0].id} to ${part.at(-1).id}`, kind: "range", open: false, links: [], children: part, parent },
      ...{ first: part[0].first ?? part[0].name, last: part.at(-1).last ?? part.at(-1).name, depth: parent.depth + 1, copies: parent.copies },
      parameters: part.reduce((sum, one) => sum + one.parameters, 0),
      count: part.reduce((sum, one) => sum + (one.count ?? 1), 0),
      shape: part.at(-1).shape,
    };
    range.name = `${range.first} … ${range.last}`;
    nodes.set(range.id, range);
    for (const one of part) {
      one.parent = range;
      deepen(one);
      home.set(one.id, range);
    }
  }
  parent.children = [...new Set(parent.children.map((child) => home.get(child.id) ?? child))];
  const kept = new Map();
  for (const link of parent.links) {
    const from = home.get(link.from), to = home.get(link.to);
    if (from && from === to) from.links.push(link);
    else {
      const outer = { ...link, from: from?.id ?? link.from, to: to?.id ?? link.to };
      if (from || to) delete outer.name;
      kept.set([outer.from, outer.to, outer.kind].join("\n"), outer);
    }
  }
  parent.links = [...kept.values()];
}

function deepen(one) {
  one.depth += 1;
  one.children.forEach(deepen);
}

/** Whether a node has members to unfold. */
export function folds(one) {
  return one.children.length > 0;
}

/** Whether what is inside of a node are modules of a package or project, and not members of the document. */
export function isPackaged(one) {
  return folds(one) && one.children.every((child) => child.kind === "module" || isPackaged(child));
}

/** The nodes around a node, the outermost first. */
export function above(one) {
  return one.parent ? [...above(one.parent), one.parent] : [];
}

/** A node and all inside of it. */
export function* walk(one) {
  yield one;
  for (const child of one.children) yield* walk(child);
}

/** Whether a node stands for something of the document that has a name there. */
export function isNamed(one) {
  return one.name !== "" && one.kind !== "range" && one.kind !== "joint";
}

/** The path by which a document or a checkpoint names a node. */
export function pathOf(one) {
  return one.id.replace(/ (input|output) /, ".").replace(/^(input|output) /, "").replace(/ body$/, "");
}
