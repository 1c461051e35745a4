// The page of a graph: the map, the panel, the tools above them, and the keys.

import { readAddress, writeAddress } from "./address.js";
import { cardOf, sizeOf } from "./cards.js";
import { cameraOf } from "./camera.js";
import { button, draw, make } from "./dom.js";
import { disturb, layOut } from "./layout.js";
import { nextTo, mapOf, placeOf, visible } from "./map.js";
import { chooserOf, overlaysOf } from "./overlays.js";
import { panelOf } from "./panel.js";
import { searchOf } from "./search.js";
import { tracedFrom } from "./trace.js";
import { above, folds, isPackaged, pathOf, treeOf, walk } from "./tree.js";

const SMALLEST = 0.72, TRIES = 60, MOST_SHOWN = 1000;

/**
 * Show the graph of `data` in the element `place`. `selected`, if there is one, is called with the id of what is selected; the address of the
 * page does not keep the view of such a graph if `isFirst`. Gives a function that selects by id, and the ids that there are.
 */
export function showGraph(data, place, selected = null, isFirst = false) {
  const tree = treeOf(data.graph, data.marks, data.folds_rest), { root } = tree;
  const overlays = overlaysOf(tree, data.overlays);
  const state = { selected: null, overlay: "", shapes: false, traces: false, found: null, isDefault: true };
  const stage = draw("g");
  const arrow = draw("marker", { id: "arrow", viewBox: "0 0 8 8", refX: 7, refY: 4, markerWidth: 9, markerHeight: 9, markerUnits: "userSpaceOnUse", orient: "auto-start-reverse" }, draw("path", { d: "M0 0.800L7 4L0 7.200z" }));
  const svg = draw("svg", { class: "map", tabindex: "0", "aria-label": `map of ${root.name}` }, draw("defs", {}, arrow), stage);
  const side = make("aside", { "aria-live": "polite" });
  const search = searchOf(root, (hits) => {
    state.found = hits.length ? new Set(hits) : null;
    show();
  }, (one) => go(one, false), () => svg.focus());
  const choice = chooserOf(overlays);
  const shapes = button("shapes", () => turnOn("shapes", !state.shapes), { "aria-pressed": "false" });
  const traces = button("trace", () => turnOn("traces", !state.traces), { "aria-pressed": "false", title: "fade what the selection does not depend on, and what does not depend on it" });
  const switches = { shapes, traces };
  const tool = (text, title, act) => button(text, act, { title, "aria-label": title });
  const view = cameraOf(svg, stage);
  place.classList.add("graph");
  place.append(
    make("header", {}, make("h1", {}, data.heading ?? (root.name || "graph")), search.element,
      make("div", { class: "tools" }, choice, shapes, traces, tool("unfold", "unfold one level", () => deepen(1)), tool("fold", "fold all", () => deepen(-1)), tool("−", "zoom out", () => view.zoom(1 / 1.25)), tool("+", "zoom in", () => view.zoom(1.25)), tool("fit", "fit into the window", () => view.fit(root.size)))),
    make("main", {}, svg, side),
  );

  const aspect = () => Math.min(2, Math.max(0.3, svg.clientWidth / (svg.clientHeight || 1)));
  const arrange = () => layOut(root, { aspect: aspect(), overlay: overlays[state.overlay], shapes: state.shapes });

  /** Draw all that has changed. */
  function show() {
    arrange();
    state.traced = state.traces && state.selected ? tracedFrom(state.selected) : null;
    stage.replaceChildren(mapOf(root, state));
    side.replaceChildren(...panelOf(tree, data, state, overlays[state.overlay || "parameters"], (one) => go(one)));
    const open = [...walk(root)].filter((one) => one.open && one.parent).map((one) => one.id);
    if (!isFirst) writeAddress({ open: state.isDefault ? null : open, at: state.selected?.id, show: state.overlay, shapes: state.shapes });
  }

  function setOpen(one, open) {
    if (!folds(one) || !one.parent || one.open === open) return;
    one.open = open;
    disturb(one);
  }

  function toggle(one) {
    state.isDefault = false;
    const corner = placeOf(one);
    setOpen(one, !one.open);
    arrange();
    const now = placeOf(one);
    view.pan((corner.x - now.x) * view.camera.scale, (corner.y - now.y) * view.camera.scale);
    show();
  }

  /** Unfold the next level everywhere, or fold all. */
  function deepen(step) {
    state.isDefault = false;
    const shown = [...visible(root)];
    let count = shown.length;
    for (const one of step > 0 ? shown.filter((one) => folds(one) && !one.open) : walk(root)) {
      count += one.children.length;
      if (step < 0 || count <= MOST_SHOWN) setOpen(one, step > 0);
    }
    show();
    view.fit(root.size);
  }

  /** Select a node, or none: what is around it unfolds, and the map moves to it. */
  function go(one, focus = true) {
    select(one, focus);
    selected?.(one?.id ?? null);
  }

  function select(one, focus) {
    state.selected = one;
    for (const node of one ? above(one) : []) {
      if (!node.open && node.parent) state.isDefault = false;
      setOpen(node, true);
    }
    show();
    if (!one) return;
    view.reveal(placeOf(one));
    if (focus) elementOf(one)?.focus({ preventScroll: true });
  }

  /** Fold or unfold a node by key, and keep the focus on it. */
  function turn(one) {
    if (!one || !folds(one)) return;
    toggle(one);
    elementOf(one).focus({ preventScroll: true });
  }

  function elementOf(one) {
    return stage.querySelector(`[data-id="${CSS.escape(one.id)}"]`);
  }

  function nodeAt(target) {
    const element = target.closest?.("[data-id]");
    return element ? tree.nodes.get(element.getAttribute("data-id")) : null;
  }

  svg.addEventListener("click", (event) => {
    if (view.wasDragged()) return;
    const one = nodeAt(event.target);
    if (one && event.target.closest(".fold")) toggle(one);
    else go(one);
  });
  svg.addEventListener("dblclick", (event) => {
    const one = nodeAt(event.target);
    if (one && folds(one) && !event.target.closest(".fold")) toggle(one);
  });

  choice.addEventListener("change", () => setOverlay(choice.value));

  function setOverlay(name) {
    state.overlay = name in overlays ? name : "";
    choice.value = state.overlay;
    show();
  }

  /** Show shapes or traces, or not. */
  function turnOn(name, on) {
    state[name] = on;
    switches[name].setAttribute("aria-pressed", String(on));
    show();
  }

  /** Select the next node in a direction. */
  function move(dx, dy) {
    const others = [...visible(root)].filter((one) => one.card.shape !== "joint" && one.kind !== "output");
    go(state.selected ? nextTo(state.selected, others, dx, dy) : others[0]);
  }

  const keys = {
    ArrowDown: () => move(0, 1), ArrowUp: () => move(0, -1), ArrowRight: () => move(1, 0), ArrowLeft: () => move(-1, 0),
    Enter: () => turn(state.selected),
    Escape: () => go(null), "+": () => view.zoom(1.25), "=": () => view.zoom(1.25), "-": () => view.zoom(1 / 1.25),
    0: () => view.fit(root.size), s: () => shapes.click(), t: () => traces.click(), "/": () => search.input.focus(),
  };
  place.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.target.closest("input, select, aside, header")) {
      if (event.key !== "/" || event.target === search.input) return;
    }
    if (!keys[event.key]) return;
    event.preventDefault();
    keys[event.key]();
  });

  const area = (one) => one.size.width * one.size.height;
  const room = () => (svg.clientWidth * svg.clientHeight) / SMALLEST ** 2;
  const insideArea = (one) => one.children.reduce((sum, child) => sum + area({ size: sizeOf(child, cardOf(child)) }), 0);

  /** Unfold as many levels as fit into the window and stay legible. */
  function unfoldWhatFits() {
    root.open = true;
    arrange();
    let tries = TRIES;
    let level = root.children;
    while (level.length && tries > 0) {
      for (const one of level) {
        if (!folds(one) || isPackaged(one) || tries <= 0 || area(root) + insideArea(one) > room()) continue;
        tries -= 1;
        setOpen(one, true);
        arrange();
        const scale = Math.min((svg.clientWidth - 48) / root.size.width, (svg.clientHeight - 48) / root.size.height);
        if (scale < SMALLEST) setOpen(one, false);
      }
      level = level.filter((one) => one.open).flatMap((one) => one.children);
    }
    arrange();
  }

  function start() {
    const given = readAddress();
    root.open = true;
    for (const one of walk(root)) if (one.parent) setOpen(one, given.open?.includes(one.id) ?? false);
    const overlay = given.show || data.show;
    state.overlay = overlay in overlays ? overlay : "";
    choice.value = state.overlay;
    const marked = [...walk(root)].filter((one) => one.mark);
    if (given.open === null && marked.length) for (const one of marked.flatMap(above)) setOpen(one, true);
    else if (given.open === null && data.depth) for (const one of walk(root)) setOpen(one, one.depth < data.depth);
    else if (given.open === null) unfoldWhatFits();
    state.isDefault = given.open === null;
    turnOn("shapes", given.shapes);
    view.fit(root.size);
    const chosen = given.at && (tree.nodes.get(given.at) ?? [...walk(root)].find((one) => pathOf(one) === given.at));
    if (chosen) go(chosen, false);
  }

  matchMedia("print").addEventListener("change", (event) => {
    if (event.matches) {
      stage.removeAttribute("transform");
      svg.setAttribute("viewBox", `0 0 ${root.size.width} ${root.size.height}`);
    } else {
      svg.removeAttribute("viewBox");
      view.apply();
    }
  });
  addEventListener("hashchange", () => place.isConnected && start());
  start();
  return { choose: (id) => select(tree.nodes.get(id) ?? null, false), has: (id) => tree.nodes.has(id) };
}
