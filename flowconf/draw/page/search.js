// The search field: it finds members by words, and goes from one to the next.

import { make } from "./dom.js";
import { walk } from "./tree.js";

/** The search of a tree. `show` is called with the nodes that match, `go` with one of them, and `leave` when the search is left. */
export function searchOf(root, show, go, leave) {
  const input = make("input", { type: "search", placeholder: "search  /", "aria-label": "search members", autocomplete: "off", spellcheck: "false" });
  const count = make("span", { class: "count", role: "status" });
  let hits = [], hit = -1;

  function find() {
    hits = matching(root, input.value);
    hit = -1;
    count.textContent = input.value ? `${hits.length} found` : "";
    show(hits);
  }

  function next(step) {
    if (!hits.length) return;
    hit = (hit + step + hits.length) % hits.length;
    go(hits[hit]);
    count.textContent = `${hit + 1} of ${hits.length}`;
  }

  input.addEventListener("input", find);
  input.addEventListener("keydown", (event) => {
    if (event.key === "Enter") next(event.shiftKey ? -1 : 1);
    if (event.key === "Escape") {
      input.value = "";
      find();
      leave();
    }
    event.stopPropagation();
  });
  return { input, element: make("div", { class: "find" }, input, count) };
}

/** All nodes that match a text, in the order of the graph. */
function matching(root, text) {
  const words = text.toLowerCase().split(/\s+/).filter(Boolean);
  if (!words.length) return [];
  return [...walk(root)].filter((one) => one.parent && one.kind !== "range" && one.kind !== "joint" && words.every((word) => searched(one).includes(word)));
}

function searched(one) {
  one.searched ??= [one.id, one.name, one.verb, one.tag, one.source_name, ...(one.calls ?? []), ...(one.written ?? []), one.frozen && "frozen", one.mark?.kind].filter(Boolean).join("\n").toLowerCase();
  return one.searched;
}
