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
  new Report(place, (run) => run.graph && { graph: run.graph }).update(data);
}

/** The report in an element, which `update` fills. */
export class Report {
  /** `graphOf` gives the graph of a run, if it has one; `ask`, if there is one, asks for it and for notes about it, once it is unfolded. */
  constructor(place, graphOf, ask = null) {
    Object.assign(this, { place, graphOf, ask });
    this.charts = chartsOf();
    this.parts = { top: make("div", { class: "top" }), sections: make("nav", { class: "sections", "aria-label": "sections" }), results: make("section"), curves: section("Curves", this.charts.element), predictions: make("div"), media: make("div"), chosen: make("div") };
    this.sorting = { by: "", sign: 1 };
    this.made = new Map();
    this.data = null;
    this.chosen = null;
    place.classList.add("report");
    place.append(...Object.values(this.parts));
  }

  /** Show what has changed. */
  update(data) {
    this.data = data;
    const { runs } = data;
    if (!runs.some((run) => run.id === this.chosen)) this.chosen = runs[0]?.id ?? null;
    this.showTop();
    this.showResults();
    this.charts.update(runs);
    this.parts.curves.hidden = this.charts.element.hidden;
    this.showChosen();
  }

  // What the table of runs calls

  sort(title) {
    this.sorting.sign = this.sorting.by === title ? -this.sorting.sign : 1;
    this.sorting.by = title;
    this.showResults();
  }

  hide(run) {
    run.hidden = !run.hidden;
    this.charts.update(this.data.runs);
  }

  choose(run) {
    this.chosen = run.id;
    this.showChosen();
    this.parts.chosen.scrollIntoView({ block: "start" });
  }

  point(run) {
    this.charts.point(run);
  }

  // The parts

  showTop() {
    const { runs } = this.data;
    const title = runs.length === 1 ? runs[0].name : `${runs.length || "no"} runs`;
    const notes = (this.data.notes ?? []).map((note) => make("p", { class: "muted" }, note));
    this.parts.top.replaceChildren(...[make("h1", {}, title), runs.length === 1 && facts(runs[0].facts), ...notes].filter(Boolean));
  }

  showResults() {
    const { runs, differs } = this.data, place = this.parts.results;
    const equal = runs.length > 1 && !differs.length && make("p", { class: "muted" }, "The runs have equal settings.");
    const shown = runs.length > 1 ? [make("h2", {}, "What differs"), equal, runsTable(this.data, this.sorting, this)] : [make("h2", {}, "Results"), ...runs.map(results)];
    const scrolled = place.querySelector(".tall");
    const top = scrolled?.scrollTop ?? 0, left = scrolled?.scrollLeft ?? 0;
    const controls = () => [...place.querySelectorAll("button, input")], focused = controls().indexOf(document.activeElement);
    place.replaceChildren(...shown.filter(Boolean));
    place.querySelector(".tall")?.scrollTo(left, top);
    if (focused >= 0) controls()[focused]?.focus({ preventScroll: true });
  }

  /** Show all about the chosen run: its predictions, what it logged, and its settings, weights and graph. */
  showChosen() {
    const { runs } = this.data, run = this.chosenRun(), predictions = run?.predictions, media = run?.media;
    const heading = this.titled("Predictions", "of"), isOne = runs.length === 1;
    this.renew(this.parts.predictions, JSON.stringify([heading, predictions]), () => (predictions?.tasks.length ? [section(heading, predictionsOf(predictions))] : []));
    this.renew(this.parts.media, media, () => {
      const shown = media ? mediaOf(media) : [];
      return shown.length ? [section(this.titled("Logged", "by"), shown)] : [];
    });
    const from = run && JSON.stringify([run.id, runs.length > 1, runs.indexOf(run), run.name, runs.length > 1 && run.facts, run.settings, run.weights, run.environment]);
    let graph = null;
    this.renew(this.parts.chosen, from, () => {
      if (!run) return [];
      graph = this.graphPart(run);
      return [
        !isOne && make("section", {}, make("h2", {}, `${letterOf(runs.indexOf(run))}  ${run.name}`), facts(run.facts)),
        graph?.element,
        run.weights.length > 0 && section("Weights", block(run.weights)),
        make("details", { open: isOne && run.settings.length <= MOST_OPEN }, make("summary", {}, `Settings (${run.settings.length})`), settings(run)),
        make("details", {}, make("summary", {}, "Environment"), facts(run.environment)),
      ].filter(Boolean);
    });
    graph?.start();
    this.showSections();
  }

  /** Fill a part with what `content` gives, unless it was made from the same. */
  renew(part, from, content) {
    if (this.made.get(part) === from) return;
    this.made.set(part, from);
    part.replaceChildren(...content());
  }

  chosenRun() {
    return this.data.runs.find((run) => run.id === this.chosen) ?? null;
  }

  /** The title of a section about the chosen run; of several runs, with its letter. */
  titled(title, word) {
    const { runs } = this.data;
    return runs.length > 1 ? `${title} ${word} ${letterOf(runs.indexOf(this.chosenRun()))}` : title;
  }

  graphPart(run) {
    const place = make("div", { class: "graph" });
    const known = this.graphOf(run);
    if (known) return { element: section("Graph", place), start: () => showGraph(known.graph, place) };
    if (!this.ask) return null;
    const load = async () => {
      place.append(make("p", { class: "muted" }, "The graph is checked …"));
      const { graph, notes } = await this.ask(run);
      place.replaceChildren(...(graph ? [] : ["The graph cannot be shown:", ...notes].map((note) => make("p", {}, note))));
      if (graph) showGraph(graph, place);
    };
    const element = make("details", { ontoggle: () => element.open && !place.firstChild && load() }, make("summary", {}, "Graph"), place);
    return { element, start() {} };
  }

  // The list of sections

  /** List the sections, which a click brings into the window. */
  showSections() {
    const now = this.titles().map((title) => title.textContent);
    this.renew(this.parts.sections, now.join("\n"), () => now.map((text, at) => button(text, () => this.bring(at))));
  }

  bring(at) {
    const title = this.titles()[at], details = title.closest("details");
    if (details) details.open = true;
    title.scrollIntoView({ block: "start" });
  }

  titles() {
    return [...this.place.querySelectorAll("section > h2, details > summary")].filter((title) => !title.closest(".graph, [hidden]"));
  }
}

function section(title, ...content) {
  return make("section", {}, make("h2", {}, title), content);
}
