// The panel beside the map: the whole graph, or all about the selected member.

import { block, button, facts, make } from "./dom.js";
import { weightNotes } from "./cards.js";
import { full, percent } from "./numbers.js";
import { largest } from "./overlays.js";
import { above, isNamed, pathOf } from "./tree.js";
import { hasCourse, trendsOf } from "./trends.js";

/** What the panel shows; `go` selects a node. */
export function panelOf(tree, data, state, overlay, go) {
  return state.selected ? about(state.selected, tree, data, go) : overview(tree, data, overlay, go);
}

function overview(tree, data, overlay, go) {
  const { root } = tree;
  const trainable = root.trainable ?? 0;
  const rows = [["file", placeText(root.origin ?? root.place)], ["parameters", full(root.parameters)], ["trainable", full(trainable)]];
  if (root.parameters > trainable) rows.push(["frozen", full(root.parameters - trainable)]);
  for (const [name, value] of root.params ?? []) rows.push([name, value]);
  const leaves = data.marks ? [] : largest(root, overlay);
  const top = overlay.shares.get(leaves[0]?.id) || 1;
  return [
    make("h2", {}, root.name || "graph"),
    facts(rows),
    ...marked(tree, data, go),
    ...accounts(root, data),
    leaves.length > 0 && make("h3", {}, `Largest by ${overlay.title}`),
    leaves.length > 0 && make("ol", { class: "largest" }, leaves.map((one) => ranked(one, overlay, top, go))),
    make("h3", {}, "How to read the map"),
    notation(tree),
  ].filter(Boolean);
}

/** What is marked, and notes on the whole. */
function marked(tree, data, go) {
  const row = ([id, { kind, texts }]) => {
    const one = tree.nodes.get(id);
    const name = one ? button(pathOf(one) || tree.root.name || "graph", () => go(one)) : make("span", {}, id);
    return make("li", {}, make("b", {}, `${kind} `), name, texts.map((text) => make("div", { class: "muted" }, text)));
  };
  const marks = Object.entries(data.marks ?? {}), notes = data.notes ?? [];
  const list = marks.length > 0 && make("ul", { class: "links marks" }, marks.map(row));
  return list || notes.length ? [make("h3", {}, data.title ?? "Marked"), list, notes.length > 0 && make("ul", { class: "links marks" }, notes.map((note) => make("li", {}, note)))].filter(Boolean) : [];
}

function ranked(one, overlay, top, go) {
  const share = overlay.shares.get(one.id);
  const line = make("span", { class: "bar" });
  line.style.width = `${(100 * share) / top}%`;
  const figures = make("span", { class: "figures" }, overlay.texts?.get(one.id) ?? percent(share));
  const calls = make("span", { class: "calls" }, (one.calls ?? [one.source_name ?? ""]).join(" · "));
  const path = make("span", { class: "path" }, breakable(pathOf(one))), place = make("span", { class: "place" }, placeText(one.origin ?? one.place));
  return make("li", {}, button([path, figures, calls, place, line], () => go(one)));
}

function notation(tree) {
  const hasModules = [...tree.nodes.values()].some((one) => one.kind === "module");
  const rows = [
    ["solid line", "the stream from step to step"],
    ["dashed line", "a reference: one more argument"],
    ["dotted line", "the value of the previous iteration or call"],
    ["thin line into +", "the stream that a residual is added to"],
    ["dashed border and ✻", "frozen"],
    ["cards in a stack, × n", "n copies in series, each with its own weights"],
    ["double border", "a graph that unfolds: click ▸, or press Enter"],
    hasModules && ["members without lines", "modules inside of a package's module, in the order in which it declares them"],
  ];
  const keys = "arrows move, Enter folds, / searches, + and − zoom, 0 fits, s shows shapes, t traces the selection, Esc clears";
  return make("div", { class: "notation" }, facts(rows.filter(Boolean)), make("p", {}, keys));
}

function about(one, tree, data, go) {
  const around = above(one).filter((node) => node.parent && node.kind !== "range");
  const crumbs = [button(tree.root.name || "graph", () => go(null))];
  for (const node of around) crumbs.push(" › ", button(node.name, () => go(node)));
  return [
    make("nav", { "aria-label": "around it" }, crumbs),
    make("h2", {}, one.name || one.verb || one.kind),
    one.mark && make("div", { class: "marks" }, make("b", {}, one.mark.kind), one.mark.texts.map((text) => make("div", {}, text))),
    facts([...rowsOf(one), ...measured(one, data)]),
    ...trendsOf(one, Object.values(data.overlays)),
    ...links(one, tree, go),
    ...written(one, data),
    ...tensors(one),
    ...accounts(one, data),
    ...generated(one, data),
  ].filter(Boolean);
}

function rowsOf(one) {
  const rows = [["path", one.kind === "range" ? "" : pathOf(one)], ["verb", one.verb], ["graph", one.source_name]];
  rows.push(["calls", (one.calls ?? []).join("\n")], ["as written", (one.written ?? []).join("\n")]);
  for (const [name, value] of one.params ?? []) rows.push([name, value]);
  rows.push(["output", one.shape], ["tag", one.tag], ["runs", one.times && (one.times === "1" ? "once" : `${one.times} times`)]);
  rows.push(["copies", one.repeat && `${one.repeat} in series`], ["same weights as", one.reuses]);
  for (const note of one.notes ?? []) rows.push(["runs over", note]);
  if (one.parameters && !one.reuses) {
    const each = one.copies > 1 ? ` (${full(one.parameters / one.copies)} in each of ${one.copies} copies)` : "";
    rows.push(["parameters", full(one.parameters) + each]);
    if (one.trainable !== one.parameters && one.kind !== "range") rows.push(["trainable", full(one.trainable ?? 0)]);
  }
  const how = { all: "no gradients, evaluation mode", params: "no gradients" }[one.frozen];
  rows.push(["frozen", how && how + (one.setting ? "" : ", set above")], ["thawed", one.setting === "no" && "in a frozen graph"]);
  rows.push(["written at", one.origin && placeText(one.origin)]);
  for (const note of weightNotes(one)) rows.push(["weights", note.replace(/^weights /, "")]);
  return rows;
}

/** The figures of a member in the overlays that the data brings, apart from those that have a chart. */
function measured(one, data) {
  return Object.values(data.overlays).filter((overlay) => one.id in overlay.values && !hasCourse(overlay, one)).map(({ title, values }) => [title, values[one.id][1]]);
}

/** What a member reads and what reads it. */
function links(one, tree, go) {
  const all = one.parent ? above(one).findLast((node) => node.all)?.all ?? [] : [];
  const mine = one.kind === "range" ? [] : all;
  const row = (link, other) => {
    const node = tree.nodes.get(other);
    const text = node?.name || { input: "input", output: "output", joint: "joint" }[node?.kind] || other;
    const kind = link.kind === "stream" ? "" : link.kind === "kept" ? "residual" : link.kind;
    const more = [kind, link.name, link.shape].filter(Boolean).join(" · ");
    return make("li", {}, button(text, () => go(node)), more && make("span", { class: "muted" }, ` ${more}`));
  };
  const into = mine.filter((link) => link.to === one.id).map((link) => row(link, link.from));
  const out = mine.filter((link) => link.from === one.id).map((link) => row(link, link.to));
  return [...listed("Reads", into), ...listed("Read by", out)];
}

function listed(title, rows) {
  return rows.length ? [make("h3", {}, title), make("ul", { class: "links" }, rows)] : [];
}

/** The lines of the document that a member was written on. */
function written(one, data) {
  const { place } = one;
  if (!place || one.kind === "range" || (!place.line && !place.word)) return [];
  const lines = data.lines[place.file] ?? {};
  const numbers = Object.keys(lines).map(Number).filter((line) => line >= place.line && line <= place.end);
  const indent = indentOf(numbers.map((line) => lines[line]));
  const shown = numbers.map((line) => make("span", { class: "line" }, make("i", {}, line), lines[line].slice(indent)));
  return [make("h3", {}, placeText(place)), shown.length > 0 && make("pre", { tabindex: "0" }, shown)].filter(Boolean);
}

function tensors(one) {
  if (!one.tensors?.length || one.reuses) return [];
  return [make("h3", {}, "Parameters"), facts(one.tensors.map(([name, shape]) => [name, `[${shape.join(", ")}]`]))];
}

/** What loading the weights of a member has done, or of the innermost member around it. */
function accounts(one, data) {
  const home = [...above(one), one].findLast((node) => data.accounts[pathOf(node)]);
  const title = home === one ? "Weights" : `Weights of ${(home && pathOf(home)) || "the graph"}`;
  return home && one.parameters > 0 ? [make("h3", {}, title), block(data.accounts[pathOf(home)], "wraps")] : [];
}

/** The lines of generated source that belong to a step. */
function generated(one, data) {
  const lines = (data.source[one.home] ?? []).filter(([, step]) => step && step === one.id.split(".").at(-1));
  if (!isNamed(one) || !lines.length) return [];
  const indent = indentOf(lines.map(([text]) => text));
  return [make("h3", {}, `Generated, in ${one.home}`), block(lines.map(([text]) => text.slice(indent)))];
}

/** The spaces that all lines begin with. */
function indentOf(lines) {
  return Math.min(...lines.filter((line) => line.trim()).map((line) => line.length - line.trimStart().length));
}

/** A path that breaks after its dots. */
function breakable(path) {
  return path.split(/(?<=\.)/).flatMap((name) => [name, make("wbr")]);
}

function placeText(place) {
  if (!place) return "";
  if (place.word) return `command line, ${place.word}`;
  return place.line ? `${place.file}:${place.line}` : place.file ?? "";
}
