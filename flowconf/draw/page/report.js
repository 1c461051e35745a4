// The page of runs: their state, results, curves, what differs, the graph, and the settings with their origins.

import { chart, quantities } from "./curves.js";
import { make } from "./dom.js";
import { showGraph } from "./graph.js";

const FIRST = ["loss", "accuracy"];

/** Show the runs of `data` in the element `place`. */
export function showReport(data, place) {
  const { runs } = data;
  const many = runs.length > 1;
  const sections = [
    head(data),
    many && section("What differs", differences(data)),
    section("Results", results(runs)),
    curvesOf(data, many),
    ...runs.filter((run) => run.graph).slice(0, 1).map((run) => graphOf(run, many)),
    ...runs.filter((run) => run.weights.length).map((run) => section(many ? `Weights of ${run.name}` : "Weights", block(run.weights))),
    ...runs.map((run) => settings(run, many)),
    ...runs.map((run) => environment(run, many)),
  ];
  place.classList.add("report");
  place.append(...sections.filter(Boolean).map((one) => one.element ?? one));
  for (const one of sections) one?.start?.();
}

function head({ runs }) {
  const [run] = runs;
  const title = runs.length > 1 ? `${runs.length} runs` : run.name;
  return make("div", { class: "top" }, make("h1", {}, title), runs.length === 1 && facts(run.facts));
}

function differences({ runs, differs }) {
  if (!differs.length) return make("p", {}, "The runs have equal settings.");
  return table(["setting", ...runs.map(named)], differs.map(({ key, values }) => [key, ...values]), "settings");
}

function results(runs) {
  const names = [...new Set(runs.flatMap((run) => Object.keys(run.metrics)))];
  const shown = runs.length > 1 ? names.filter((name) => name.split("/").length === 2) : names;
  const rows = shown.map((name) => [name, ...runs.map((run) => (name in run.metrics ? figure(run.metrics[name]) : ""))]);
  const states = ["status", ...runs.map((run) => run.status)];
  return table(["", ...(runs.length > 1 ? runs.map(named) : ["best"])], [states, ...rows], "results");
}

function curvesOf(data, many) {
  const { runs } = data;
  const all = quantities(runs);
  const order = (name) => (FIRST.includes(name) ? FIRST.indexOf(name) : name.startsWith("lr") ? 1e6 : FIRST.length + name.split("/").length);
  const names = [...all.keys()].sort((a, b) => order(a) - order(b) || (a < b ? -1 : 1));
  const place = make("div", { class: "curves" });
  const look = { axis: "step", log: false, many };
  const axis = make("select", { "aria-label": "axis" }, ["step", "epoch"].map((name) => make("option", {}, name)));
  const log = make("input", { type: "checkbox" });
  const filter = make("input", { type: "search", placeholder: "filter", "aria-label": "filter curves" });
  const label = (curve) => [many && letter(curve.number), curve.split].filter(Boolean).join(" ") || curve.name;
  let shown = [];
  function draw() {
    for (const remove of shown) remove();
    shown = names.filter((name) => name.includes(filter.value)).map((name) => chart(name, all.get(name), look, place, label));
  }
  axis.addEventListener("change", () => redraw({ axis: axis.value }));
  log.addEventListener("change", () => redraw({ log: log.checked }));
  filter.addEventListener("input", draw);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
  function redraw(change) {
    Object.assign(look, change);
    draw();
  }
  if (!names.length) return null;
  const tools = make("div", { class: "tools" }, filter, axis, make("label", {}, log, " logarithmic"));
  const thinned = runs.some((run) => run.thinned) && make("p", { class: "muted" }, "Long curves are shown by the smallest and largest values of equal parts.");
  return { element: section("Curves", tools, place, thinned), start: draw };
}

function graphOf(run, many) {
  const place = make("div", { class: "graph" });
  return { element: section(many ? `Graph of ${run.name}` : "Graph", place), start: () => showGraph(run.graph, place) };
}

function settings(run, many) {
  const rows = run.settings.map(([key, value, origin]) => [key, value, origin]);
  const shown = table(["setting", "value", "written at"], rows, "settings");
  return make("details", { open: !many }, make("summary", {}, many ? `Settings of ${run.name}` : "Settings"), shown);
}

function environment(run, many) {
  return make("details", {}, make("summary", {}, many ? `Environment of ${run.name}` : "Environment"), facts(run.environment));
}

/** The name of a run of several, by the letter that it has in the curves. */
function named(run, number) {
  return `${letter(number)}  ${run.name}`;
}

function letter(number) {
  return number < 26 ? String.fromCharCode(65 + number) : String(number + 1);
}

function section(title, ...content) {
  return make("section", {}, make("h2", {}, title), content);
}

function table(head, rows, kind) {
  const cells = (row, tag) => row.map((cell) => make(tag, {}, cell ?? ""));
  return make("div", { class: "wide" }, make("table", { class: kind }, make("thead", {}, make("tr", {}, cells(head, "th"))), make("tbody", {}, rows.map((row) => make("tr", {}, cells(row, "td"))))));
}

function block(lines) {
  return make("pre", { tabindex: "0" }, lines.map((line) => make("span", { class: "line" }, line)));
}

function facts(rows) {
  return make("dl", {}, rows.map(([name, value]) => [make("dt", {}, name), make("dd", {}, value)]));
}

function figure(value) {
  return String(Number(value.toPrecision(5)));
}
