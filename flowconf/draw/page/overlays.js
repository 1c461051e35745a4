// Overlays: a share for each node, as a tint, a bar and a figure.

import { make } from "./dom.js";
import { folds, isPackaged, walk } from "./tree.js";
import { percent, short } from "./numbers.js";

/** The list in which one of `overlays` is chosen, in their groups. */
export function chooserOf(overlays) {
  const names = Object.keys(overlays);
  const option = (name) => make("option", { value: name }, overlays[name].title);
  const groups = [...new Set(names.map((name) => overlays[name].group).filter(Boolean))];
  const grouped = groups.map((group) => make("optgroup", { label: group }, names.filter((name) => overlays[name].group === group).map(option)));
  return make("select", { "aria-label": "overlay" }, make("option", { value: "" }, "no overlay"), names.filter((name) => !overlays[name].group).map(option), grouped);
}

/** The overlays of a picture by name: that of parameters, and those that the data brings. */
export function overlaysOf(tree, data) {
  const found = { parameters: parameters(tree.root) };
  for (const [name, overlay] of Object.entries(data)) found[name] = brought(tree, overlay);
  return found;
}

function parameters(root) {
  const shares = new Map(), texts = new Map();
  const whole = root.parameters || 1;
  for (const one of walk(root)) {
    if (one.kind === "input" || one.kind === "output" || one.kind === "joint") continue;
    shares.set(one.id, one.reuses ? 0 : one.parameters / whole);
    if (one.parameters && !one.reuses) texts.set(one.id, `${short(one.parameters)} · ${percent(one.parameters / whole)}`);
  }
  return { title: "parameters", shares, texts };
}

function brought(tree, overlay) {
  const shares = new Map(), texts = new Map();
  for (const [path, [share, text]] of Object.entries(overlay.values)) {
    if (!tree.nodes.has(path)) continue;
    shares.set(path, share);
    texts.set(path, text);
  }
  return { title: overlay.title, group: overlay.group, shares, texts };
}

/** The members of the document without further ones inside that have the largest shares. */
export function largest(root, overlay, most = 8) {
  const leaves = [...walk(root)].filter((one) => one.kind !== "module" && (!folds(one) || isPackaged(one)) && overlay.shares.get(one.id) > 0);
  return leaves.sort((a, b) => overlay.shares.get(b.id) - overlay.shares.get(a.id)).slice(0, most);
}
