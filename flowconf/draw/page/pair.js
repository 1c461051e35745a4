// Two graphs side by side, such as before and after a change: what is selected in one is selected in the other.

import { make } from "./dom.js";
import { showGraph } from "./graph.js";

/** Show the graphs `before` and `after` in the element `place`. The panel is that of the second, unless only the first has the selection. */
export function showPair({ before, after }, place) {
  const places = [make("div", { class: "before" }), make("div", { class: "after" })];
  place.classList.add("pair");
  place.append(...places);
  const isGone = (id) => id !== null && !shown[1].has(id);
  const shown = [];
  shown[0] = showGraph(before, places[0], (id) => {
    place.classList.toggle("gone", isGone(id));
    shown[1]?.choose(id);
  }, true);
  shown[1] = showGraph(after, places[1], (id) => {
    place.classList.remove("gone");
    shown[0].choose(id);
  });
}
