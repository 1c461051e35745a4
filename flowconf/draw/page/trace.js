// What a node depends on, and what depends on it.

import { walk } from "./tree.js";

/** A node, the nodes that its value depends on, and those that depend on it, each with all that is inside. A value of a previous iteration is not followed. */
export function tracedFrom(one) {
  const found = new Set(walk(one));
  for (let node = one; node.parent; node = node.parent) {
    found.add(node);
    for (const id of [...reached(node, "to", "from"), ...reached(node, "from", "to")]) {
      const other = node.parent.children.find((child) => child.id === id);
      if (other) for (const inner of walk(other)) found.add(inner);
    }
  }
  return found;
}

/** The ids of the nodes of a level that links lead to, from one of their ends to the other. */
function reached(node, near, far) {
  const links = node.parent.links.filter((link) => link.kind !== "state");
  const found = new Set([node.id]);
  for (const id of found) for (const link of links) if (link[near] === id) found.add(link[far]);
  found.delete(node.id);
  return found;
}
