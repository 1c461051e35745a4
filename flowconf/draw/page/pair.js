// Two graphs side by side, such as before and after a change: what is selected in one is selected in the other.

import { make } from "./dom.js";
import { showGraph } from "./graph.js";

const TABLES = ["lines", "source", "accounts"];

/** Show the graphs `before` and `after` in the element `place`. The panel is that of the second, unless only the first has the selection. */
export function showPair({ before, after, names }, place) {
  const places = [make("div", { class: "before" }), make("div", { class: "after" })];
  place.classList.add("pair");
  place.append(...places);
  const isGone = (id) => id !== null && !shown[1].has(id);
  const shown = [];
  shown[0] = showGraph({ ...whole(before, after), heading: `before: ${names[0]}`, folds_rest: true }, places[0], (id) => {
    place.classList.toggle("gone", isGone(id));
    shown[1]?.choose(id);
  }, true);
  shown[1] = showGraph({ ...after, heading: `after: ${names[1]}`, folds_rest: true }, places[1], (id) => {
    place.classList.remove("gone");
    shown[0].choose(id);
  });
}

/** `before` with what is in `after` only, because it is the same there. */
function whole(before, after) {
  const known = new Map();
  const note = (one) => {
    known.set(one.id, one);
    one.inside?.members.forEach(note);
  };
  const member = (one) => {
    if (one.same) return structuredClone(known.get(one.id));
    return one.inside ? { ...one, inside: { ...one.inside, members: one.inside.members.map(member) } } : one;
  };
  note(after.graph);
  const tables = TABLES.map((table) => [table, Object.fromEntries(Object.entries(before[table]).map(([name, value]) => [name, value ?? after[table][name]]))]);
  return { ...before, ...Object.fromEntries(tables), graph: member(before.graph) };
}
