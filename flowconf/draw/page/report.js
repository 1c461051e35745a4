// The page of runs: their state and results, what differs, curves, and the settings, weights and graph of one of them.

import { chartsOf } from "./charts.js";
import { letterOf } from "./colours.js";
import { block, button, facts, make } from "./dom.js";
import { showGraph } from "./graph.js";
import { mediaOf } from "./media.js";
import { predictionsOf } from "./predictions.js";
import { results, runsTable, settings } from "./tables.js";

const MOST_OPEN = 40;

/** Show the runs of `data` in the element `place`. */
export function showReport(data, place) {
  for (const [number, run] of data.runs.entries()) run.id = String(number);
  reportIn(place, (run) => run.graph && { graph: run.graph }).update(data);
}

/**
 * The report in the element `place`, which `update` fills. `graphOf` gives the graph of a run, if it has one; `ask`, if there is one, asks
 * for the graph of a run and for notes about it, once it is unfolded.
 */
export function reportIn(place, graphOf, ask = null) {
  const charts = chartsOf();
  const parts = { top: make("div", { class: "top" }), sections: make("nav", { class: "sections", "aria-label": "sections" }), results: make("section"), curves: section("Curves", charts.element), predictions: make("div"), media: make("div"), chosen: make("div") };
  const sorting = { by: "", sign: 1 };
  const made = new Map();
  let data = null, chosen = null;
  place.classList.add("report");
  place.append(...Object.values(parts));

  const acts = {
    sort(title) {
      sorting.sign = sorting.by === title ? -sorting.sign : 1;
      sorting.by = title;
      showResults();
    },
    hide(run) {
      run.hidden = !run.hidden;
      charts.update(data.runs);
    },
    choose(run) {
      chosen = run.id;
      showChosen();
      parts.chosen.scrollIntoView({ block: "start" });
    },
    point: (run) => charts.point(run),
  };

  /** Show what has changed. */
  function update(given) {
    data = given;
    const { runs } = data;
    if (!runs.some((run) => run.id === chosen)) chosen = runs[0]?.id ?? null;
    showTop();
    showResults();
    charts.update(runs);
    parts.curves.hidden = charts.element.hidden;
    showChosen();
  }

  /** Fill a part with what `content` gives, unless it was made from the same. */
  function renew(part, from, content) {
    if (made.get(part) === from) return;
    made.set(part, from);
    part.replaceChildren(...content());
  }

  /** List the sections, which a click brings into the window. */
  function showSections() {
    const now = titles().map((title) => title.textContent);
    renew(parts.sections, now.join("\n"), () => now.map((text, at) => button(text, () => bring(at))));
  }

  function bring(at) {
    const title = titles()[at], details = title.closest("details");
    if (details) details.open = true;
    title.scrollIntoView({ block: "start" });
  }

  function titles() {
    return [...place.querySelectorAll("section > h2, details > summary")].filter((title) => !title.closest(".graph, [hidden]"));
  }

  function showTop() {
    const { runs } = data;
    const title = runs.length === 1 ? runs[0].name : `${runs.length || "no"} runs`;
    const notes = (data.notes ?? []).map((note) => make("p", { class: "muted" }, note));
    parts.top.replaceChildren(...[make("h1", {}, title), runs.length === 1 && facts(runs[0].facts), ...notes].filter(Boolean));
  }

  function showResults() {
    const { runs } = data;
    const equal = runs.length > 1 && !data.differs.length && make("p", { class: "muted" }, "The runs have equal settings.");
    const shown = runs.length > 1 ? [make("h2", {}, "What differs"), equal, runsTable(data, sorting, acts)] : [make("h2", {}, "Results"), ...runs.map(results)];
    const scrolled = parts.results.querySelector(".tall");
    const top = scrolled?.scrollTop ?? 0, left = scrolled?.scrollLeft ?? 0;
    const focused = [...parts.results.querySelectorAll("button, input")].indexOf(document.activeElement);
    parts.results.replaceChildren(...shown.filter(Boolean));
    parts.results.querySelector(".tall")?.scrollTo(left, top);
    if (focused >= 0) [...parts.results.querySelectorAll("button, input")][focused]?.focus({ preventScroll: true });
  }

  /** Show all about the chosen run: its predictions, what it logged, and its settings, weights and graph. */
  function showChosen() {
    const { runs } = data, run = chosenRun(), predictions = run?.predictions, media = run?.media;
    const heading = titled("Predictions", "of"), number = runs.indexOf(run);
    renew(parts.predictions, JSON.stringify([heading, predictions]), () => (predictions?.tasks.length ? [section(heading, predictionsOf(predictions))] : []));
    renew(parts.media, media, () => {
      const shown = media ? mediaOf(media) : [];
      return shown.length ? [section(titled("Logged", "by"), shown)] : [];
    });
    const from = run && JSON.stringify([run.id, runs.length > 1, number, run.name, runs.length > 1 && run.facts, run.settings, run.weights, run.environment]);
    let graph = null;
    renew(parts.chosen, from, () => {
      if (!run) return [];
      graph = graphPart(run);
      return [
        runs.length > 1 && make("section", {}, make("h2", {}, `${letterOf(number)}  ${run.name}`), facts(run.facts)),
        graph?.element,
        run.weights.length > 0 && section("Weights", block(run.weights)),
        make("details", { open: runs.length === 1 && run.settings.length <= MOST_OPEN }, make("summary", {}, `Settings (${run.settings.length})`), settings(run)),
        make("details", {}, make("summary", {}, "Environment"), facts(run.environment)),
      ].filter(Boolean);
    });
    graph?.start();
    showSections();
  }

  function chosenRun() {
    return data.runs.find((run) => run.id === chosen) ?? null;
  }

  /** The title of a section about the chosen run; of several runs, with its letter. */
  function titled(title, word) {
    return data.runs.length > 1 ? `${title} ${word} ${letterOf(data.runs.indexOf(chosenRun()))}` : title;
  }

  function graphPart(run) {
    const place = make("div", { class: "graph" });
    const known = graphOf(run);
    if (known) return { element: section("Graph", place), start: () => showGraph(known.graph, place) };
    if (!ask) return null;
    const element = make("details", { ontoggle: () => element.open && !place.firstChild && load() }, make("summary", {}, "Graph"), place);
    async function load() {
      place.append(make("p", { class: "muted" }, "The graph is checked …"));
      const { graph, notes } = await ask(run);
      place.replaceChildren(...(graph ? [] : ["The graph cannot be shown:", ...notes].map((note) => make("p", {}, note))));
      if (graph) showGraph(graph, place);
    }
    return { element, start() {} };
  }

  return { update };
}

function section(title, ...content) {
  return make("section", {}, make("h2", {}, title), content);
}
