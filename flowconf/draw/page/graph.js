// The page of a graph: the map, the panel, the tools above them, and the keys.

import { readAddress, writeAddress } from "./address.js";
import { cameraOf } from "./camera.js";
import { button, draw, make } from "./dom.js";
import { disturb, layOut } from "./layout.js";
import { nextTo, mapOf, placeOf, visible } from "./map.js";
import { chooserOf, overlaysOf } from "./overlays.js";
import { panelOf } from "./panel.js";
import { searchOf } from "./search.js";
import { tracedFrom } from "./trace.js";
import { above, folds, pathOf, treeOf, walk } from "./tree.js";
import { unfoldWhatFits } from "./unfolding.js";

const MOST_SHOWN = 1000;

/**
 * Show the graph of `data` in the element `place`. `selected`, if there is one, is called with the id of what is selected; the address of the
 * page does not keep the view of such a graph if `isFirst`. Gives a function that selects by id, and one that tells whether there is an id.
 */
export function showGraph(data, place, selected = null, isFirst = false) {
  const page = new GraphPage(data, place, selected, isFirst);
  page.start();
  const { nodes } = page.tree;
  return { choose: (id) => page.select(nodes.get(id) ?? null, false), has: (id) => nodes.has(id) };
}

class GraphPage {
  constructor(data, place, selected, isFirst) {
    Object.assign(this, { data, place, selected, isFirst });
    this.tree = treeOf(data.graph, data.marks, data.folds_rest);
    this.root = this.tree.root;
    this.overlays = overlaysOf(this.tree, data.overlays);
    this.state = { selected: null, overlay: "", shapes: false, traces: false, found: null, isDefault: true };
    this.stage = draw("g");
    this.svg = draw("svg", { class: "map", tabindex: "0", "aria-label": `map of ${this.root.name}` }, draw("defs", {}, arrow()), this.stage);
    this.view = cameraOf(this.svg, this.stage);
    this.side = make("aside", { "aria-live": "polite" });
    this.search = searchOf(this.root, (hits) => this.mark(hits), (one) => this.go(one, false), () => this.svg.focus());
    this.choice = chooserOf(this.overlays);
    this.switches = {
      shapes: button("shapes", () => this.turnOn("shapes", !this.state.shapes), { "aria-pressed": "false" }),
      traces: button("trace", () => this.turnOn("traces", !this.state.traces), { "aria-pressed": "false", title: "fade what the selection does not depend on, and what does not depend on it" }),
    };
    place.classList.add("graph");
    place.append(this.header(), make("main", {}, this.svg, this.side));
    this.listen();
  }

  /** The title, the search and the tools. */
  header() {
    const { view, root, switches } = this;
    const tool = (text, title, act) => button(text, act, { title, "aria-label": title });
    const tools = [
      this.choice, switches.shapes, switches.traces,
      tool("unfold", "unfold one level", () => this.deepen(1)), tool("fold", "fold all", () => this.deepen(-1)),
      tool("−", "zoom out", () => view.zoom(1 / 1.25)), tool("+", "zoom in", () => view.zoom(1.25)),
      tool("fit", "fit into the window", () => view.fit(root.size)),
    ];
    return make("header", {}, make("h1", {}, this.data.heading ?? (root.name || "graph")), this.search.element, make("div", { class: "tools" }, tools));
  }

  listen() {
    this.svg.addEventListener("click", (event) => this.click(event));
    this.svg.addEventListener("dblclick", (event) => {
      const one = this.nodeAt(event.target);
      if (one && folds(one) && !event.target.closest(".fold")) this.toggle(one);
    });
    this.choice.addEventListener("change", () => this.setOverlay(this.choice.value));
    const keys = this.keys();
    this.place.addEventListener("keydown", (event) => {
      if (event.ctrlKey || event.metaKey || event.altKey || event.target.closest("input, select, aside, header")) {
        if (event.key !== "/" || event.target === this.search.input) return;
      }
      if (!keys[event.key]) return;
      event.preventDefault();
      keys[event.key]();
    });
    matchMedia("print").addEventListener("change", (event) => this.print(event.matches));
    addEventListener("hashchange", () => this.place.isConnected && this.start());
  }

  /** What the keys do. */
  keys() {
    const { view, switches, search, state } = this;
    return {
      ArrowDown: () => this.move(0, 1), ArrowUp: () => this.move(0, -1), ArrowRight: () => this.move(1, 0), ArrowLeft: () => this.move(-1, 0),
      Enter: () => this.turn(state.selected), Escape: () => this.go(null),
      "+": () => view.zoom(1.25), "=": () => view.zoom(1.25), "-": () => view.zoom(1 / 1.25), 0: () => view.fit(this.root.size),
      s: () => switches.shapes.click(), t: () => switches.traces.click(), "/": () => search.input.focus(),
    };
  }

  /** Show what the address of the page, the data or the window asks for. */
  start() {
    const { data, root, state, tree } = this, given = readAddress();
    root.open = true;
    for (const one of walk(root)) if (one.parent) this.setOpen(one, given.open?.includes(one.id) ?? false);
    const overlay = given.show || data.show;
    state.overlay = overlay in this.overlays ? overlay : "";
    this.choice.value = state.overlay;
    if (given.open === null) this.unfoldFirst();
    state.isDefault = given.open === null;
    this.turnOn("shapes", given.shapes);
    this.view.fit(root.size);
    const chosen = given.at && (tree.nodes.get(given.at) ?? [...walk(root)].find((one) => pathOf(one) === given.at));
    if (chosen) this.go(chosen, false);
  }

  /** Unfold what is marked, or else so many levels as the data asks for, or as fit. */
  unfoldFirst() {
    const marked = [...walk(this.root)].filter((one) => one.mark);
    if (marked.length) for (const one of marked.flatMap(above)) this.setOpen(one, true);
    else if (this.data.depth) for (const one of walk(this.root)) this.setOpen(one, one.depth < this.data.depth);
    else unfoldWhatFits(this.root, this.svg, (one, open) => this.setOpen(one, open), () => this.arrange());
  }

  arrange() {
    const { svg, state } = this;
    const aspect = Math.min(2, Math.max(0.3, svg.clientWidth / (svg.clientHeight || 1)));
    layOut(this.root, { aspect, overlay: this.overlays[state.overlay], shapes: state.shapes });
  }

  /** Draw all that has changed. */
  show() {
    const { root, state } = this;
    this.arrange();
    state.traced = state.traces && state.selected ? tracedFrom(state.selected) : null;
    this.stage.replaceChildren(mapOf(root, state));
    this.side.replaceChildren(...panelOf(this.tree, this.data, state, this.overlays[state.overlay || "parameters"], (one) => this.go(one)));
    const open = [...walk(root)].filter((one) => one.open && one.parent).map((one) => one.id);
    if (!this.isFirst) writeAddress({ open: state.isDefault ? null : open, at: state.selected?.id, show: state.overlay, shapes: state.shapes });
  }

  // Folding

  setOpen(one, open) {
    if (!folds(one) || !one.parent || one.open === open) return;
    one.open = open;
    disturb(one);
  }

  toggle(one) {
    this.state.isDefault = false;
    const corner = placeOf(one);
    this.setOpen(one, !one.open);
    this.arrange();
    const now = placeOf(one), { scale } = this.view.camera;
    this.view.pan((corner.x - now.x) * scale, (corner.y - now.y) * scale);
    this.show();
  }

  /** Fold or unfold a node by key, and keep the focus on it. */
  turn(one) {
    if (!one || !folds(one)) return;
    this.toggle(one);
    this.elementOf(one).focus({ preventScroll: true });
  }

  /** Unfold the next level everywhere, or fold all. */
  deepen(step) {
    this.state.isDefault = false;
    const shown = [...visible(this.root)];
    let count = shown.length;
    for (const one of step > 0 ? shown.filter((one) => folds(one) && !one.open) : walk(this.root)) {
      count += one.children.length;
      if (step < 0 || count <= MOST_SHOWN) this.setOpen(one, step > 0);
    }
    this.show();
    this.view.fit(this.root.size);
  }

  // Selection

  click(event) {
    if (this.view.wasDragged()) return;
    const one = this.nodeAt(event.target);
    if (one && event.target.closest(".fold")) this.toggle(one);
    else this.go(one);
  }

  /** Select a node, or none: what is around it unfolds, and the map moves to it. */
  go(one, focus = true) {
    this.select(one, focus);
    this.selected?.(one?.id ?? null);
  }

  select(one, focus) {
    this.state.selected = one;
    for (const node of one ? above(one) : []) {
      if (!node.open && node.parent) this.state.isDefault = false;
      this.setOpen(node, true);
    }
    this.show();
    if (!one) return;
    this.view.reveal(placeOf(one));
    if (focus) this.elementOf(one)?.focus({ preventScroll: true });
  }

  /** Select the next node in a direction. */
  move(dx, dy) {
    const others = [...visible(this.root)].filter((one) => one.card.shape !== "joint" && one.kind !== "output");
    this.go(this.state.selected ? nextTo(this.state.selected, others, dx, dy) : others[0]);
  }

  elementOf(one) {
    return this.stage.querySelector(`[data-id="${CSS.escape(one.id)}"]`);
  }

  nodeAt(target) {
    const element = target.closest?.("[data-id]");
    return element ? this.tree.nodes.get(element.getAttribute("data-id")) : null;
  }

  // What is shown of each node

  /** Mark what a search has found. */
  mark(hits) {
    this.state.found = hits.length ? new Set(hits) : null;
    this.show();
  }

  setOverlay(name) {
    this.state.overlay = name in this.overlays ? name : "";
    this.choice.value = this.state.overlay;
    this.show();
  }

  /** Show shapes or traces, or not. */
  turnOn(name, on) {
    this.state[name] = on;
    this.switches[name].setAttribute("aria-pressed", String(on));
    this.show();
  }

  /** Show the whole map on paper, and what the camera shows on the screen. */
  print(isOnPaper) {
    if (isOnPaper) {
      this.stage.removeAttribute("transform");
      this.svg.setAttribute("viewBox", `0 0 ${this.root.size.width} ${this.root.size.height}`);
    } else {
      this.svg.removeAttribute("viewBox");
      this.view.apply();
    }
  }
}

function arrow() {
  return draw("marker", { id: "arrow", viewBox: "0 0 8 8", refX: 7, refY: 4, markerWidth: 9, markerHeight: 9, markerUnits: "userSpaceOnUse", orient: "auto-start-reverse" }, draw("path", { d: "M0 0.800L7 4L0 7.200z" }));
}
