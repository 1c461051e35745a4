// The section of curves: a chart for each quantity, which is drawn when it comes into the window.

import { letterOf } from "./colours.js";
import { chartOf, quantities, splitsOf } from "./curves.js";
import { make } from "./dom.js";

const FIRST = ["loss", "accuracy"], LAST = ["weight/", "decay/", "lr", "resources/rows", "resources/"], AROUND = "600px", MANY = 12;

/** The charts of runs, and the tools above them. `update` takes the runs whenever they have changed. */
export function chartsOf() {
  const place = make("div", { class: "curves" });
  const axis = make("select", { "aria-label": "axis" }, ["step", "epoch"].map((name) => make("option", {}, name)));
  const split = make("select", { "aria-label": "split", hidden: true }, make("option", { value: "" }, "all splits"));
  const log = make("input", { type: "checkbox" });
  const filter = make("input", { type: "search", placeholder: "filter", "aria-label": "filter curves" });
  const note = make("p", { class: "muted" });
  const element = make("div", {}, make("div", { class: "tools" }, filter, axis, split, make("label", {}, log, " logarithmic")), place, note);
  const charts = new Map(), inside = new Set();
  const watcher = new IntersectionObserver(seen, { rootMargin: AROUND });
  let runs = [], all = new Map(), isChosen = false;

  const label = (curve) => [runs.length > 1 && letterOf(curve.number), curve.split].filter(Boolean).join(" ") || curve.name;
  const look = () => ({ axis: axis.value, log: log.checked, many: runs.length > 1 });

  function update(given = runs) {
    runs = given;
    offerSplits();
    all = quantities(runs, split.value);
    const names = [...all.keys()].filter((name) => name.includes(filter.value)).sort(inOrder);
    const kept = new Set(names);
    for (const [name, chart] of charts) if (!kept.has(name)) drop(name, chart);
    for (const [number, name] of names.entries()) {
      const chart = charts.get(name) ?? added(name);
      if (place.children[number] !== chart.element) place.insertBefore(chart.element, place.children[number] ?? null);
      if (inside.has(chart.element)) chart.update(all.get(name), look());
    }
    const notes = [
      runs.some((run) => run.thinned) && "Long curves are shown by the smallest and largest values of equal parts.",
      runs.some((run) => run.has_more_curves) && "Only the first 5,000 curves of a run are shown.",
    ];
    note.textContent = notes.filter(Boolean).join(" ");
    element.hidden = !names.length && !filter.value;
  }

  /** Let one split be chosen; of many runs, it is the validation, for their training losses cover each other. */
  function offerSplits() {
    const splits = splitsOf(runs), known = new Set([...split.options].map((one) => one.value));
    for (const name of splits.filter((one) => !known.has(one))) split.append(make("option", {}, name));
    if (!isChosen && runs.length > MANY && splits.includes("val")) split.value = "val";
    split.hidden = runs.length < 2 || splits.length < 2;
  }

  function added(name) {
    const chart = chartOf(name, label);
    charts.set(name, chart);
    watcher.observe(chart.element);
    return chart;
  }

  function drop(name, chart) {
    watcher.unobserve(chart.element);
    inside.delete(chart.element);
    charts.delete(name);
    chart.remove();
  }

  function seen(entries) {
    for (const { target, isIntersecting } of entries) {
      if (!isIntersecting) inside.delete(target);
      else if (!inside.has(target)) {
        inside.add(target);
        const name = [...charts.keys()].find((one) => charts.get(one).element === target);
        if (all.has(name)) charts.get(name).update(all.get(name), look());
      }
    }
  }

  function drawAll() {
    for (const [name, chart] of charts) chart.update(all.get(name), look());
  }

  split.addEventListener("change", () => {
    isChosen = true;
  });
  for (const tool of [axis, split, log]) tool.addEventListener("change", () => update());
  filter.addEventListener("input", () => update());
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => update());
  matchMedia("print").addEventListener("change", (event) => event.matches && drawAll());

  function point(run) {
    for (const chart of charts.values()) chart.point(run);
  }
  return { element, update, point };
}

/** Losses first, learning rates and resources last, and quantities before their parts. */
function inOrder(a, b) {
  const last = (name) => LAST.findIndex((start) => name.startsWith(start));
  const rank = (name) => (FIRST.includes(name) ? FIRST.indexOf(name) : last(name) >= 0 ? 1e6 + last(name) : FIRST.length + name.split("/").length);
  return rank(a) - rank(b) || (a < b ? -1 : 1);
}
