// The members of a graph as a tree of nodes. A level with many members is divided into ranges, which fold like graphs.

const MOST = 40;

/** The tree of a picture: `root`, and every node by its id; `marks` are what is said about some of them. */
export function treeOf(whole, marks = {}) {
  const nodes = new Map();
  const root = node(whole, null, nodes);
  for (const [id, mark] of Object.entries(marks)) {
    const one = nodes.get(id);
    if (one) one.mark = mark;
  }
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
  const home = new Map();
  const ranges = [];
  for (let first = 0; first < steps.length; first += size) {
    const part = steps.slice(first, first + size);
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
    ranges.push(range);
  }
  const others = parent.children.filter((child) => !home.has(child.id));
  const isFirst = (child) => child.kind === "input";
  parent.children = [...others.filter(isFirst), ...ranges, ...others.filter((child) => !isFirst(child))];
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
  divide(parent, nodes);
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
