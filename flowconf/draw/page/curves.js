// The curves of runs: which there are, and a chart for each quantity, with a line for each split and run.

import { make, printable } from "./dom.js";
import { colourOf, variable } from "./colours.js";
import { figure, ticks } from "./numbers.js";

const DASHES = { train: [5, 4], val: [], test: [1, 4] };
const OTHER_DASHES = [[9, 3], [9, 3, 2, 3], [3, 2], [14, 4]];
const HEIGHT = 230, MOST_IN_LEGEND = 12, NEAR = 24;

/** The splits of the data that runs have values of: those with a loss, the training first and the test last. */
export function splitsOf(runs) {
  const parts = runs.flatMap((run) => [...Object.keys(run.curves), ...Object.keys(run.metrics)]).map((name) => name.split("/"));
  const names = new Set(parts.filter(([split, ...rest]) => rest.join("/") === "loss" || (split in DASHES && rest.length)).map(([split]) => split));
  const others = [...names].filter((name) => !(name in DASHES));
  return ["train", "val", ...others, "test"].filter((split) => names.has(split));
}

/** The quantities of some runs: what is behind the split (`val/loss` -> `loss`), with their curves, of one split or all. */
export function quantities(runs, chosen = "") {
  const found = new Map(), splits = splitsOf(runs), others = splits.filter((split) => !(split in DASHES));
  for (const [number, run] of runs.entries()) {
    if (run.hidden) continue;
    for (const [name, curve] of Object.entries(run.curves)) {
      const [split, ...rest] = name.split("/");
      const isSplit = rest.length > 0 && splits.includes(split);
      if (isSplit && chosen && split !== chosen) continue;
      const key = isSplit ? rest.join("/") : name;
      if (!found.has(key)) found.set(key, []);
      found.get(key).push({ run, number, name, split: isSplit ? split : "", other: others.indexOf(split), ...curve });
    }
  }
  const place = (curve) => splits.indexOf(curve.split);
  for (const curves of found.values()) curves.sort((a, b) => a.number - b.number || place(a) - place(b));
  const terms = [...found.keys()].filter((key) => key.startsWith("loss/"));
  if (terms.length === 1 && found.get(terms[0]).every((term) => isWhole(term, found.get("loss")))) found.delete(terms[0]);
  return found;
}

/** Whether a term of the loss is the whole loss of its split and run. */
function isWhole(term, losses = []) {
  const loss = losses.find((curve) => curve.number === term.number && curve.split === term.split);
  return loss?.values.length === term.values.length && term.values.every((value, at) => value === loss.values[at]);
}

/** A chart of one quantity. `label` names a curve. It is drawn by `update`, and later ones move its lines. */
export function chartOf(title, label) {
  const caption = make("span", { class: "nearest" });
  const element = make("figure", { "aria-label": title }, make("figcaption", {}, title, caption));
  let plot = null, drawn = "";

  /** Draw `curves`; `look` has the axis of time, the scale, and whether there are many runs. */
  function update(curves, look) {
    const now = JSON.stringify([look, variable("--curve1"), curves.map((curve) => [curve.run.id, curve.number, curve.name, pointsOf(curve)])]);
    const data = tableOf(curves, look);
    if (plot && now === drawn) {
      plot.curves = curves;
      plot.setData(data, showsAll(plot));
      return;
    }
    plot?.destroy();
    drawn = now;
    plot = new uPlot(optionsOf(curves, look), data, element);
    plot.curves = curves;
  }

  function optionsOf(curves, look) {
    const ink = variable("--soft"), line = variable("--line");
    const axis = { stroke: ink, grid: { stroke: line, width: 0.5 }, ticks: { stroke: line, width: 0.5 }, font: "11px system-ui" };
    const positive = curves.every((curve) => curve.values.every((value) => value === null || value > 0));
    const few = curves.length <= MOST_IN_LEGEND;
    return {
      width: Math.max(240, element.clientWidth - 22),
      height: HEIGHT,
      scales: { x: { time: false }, y: look.log && positive ? { distr: 3 } : {} },
      axes: [{ ...axis, size: 34 }, { ...axis, size: 62, values: (_, values) => ticks(values) }],
      series: [{ label: look.axis, value: (_, value) => (value === null ? "" : figure(value)) }, ...curves.map((curve) => lineOf(curve, look))],
      cursor: { sync: { key: "report" }, drag: { x: true, y: false }, ...(few ? {} : { focus: { prox: NEAR } }) },
      focus: { alpha: 0.2 },
      legend: { show: few, live: true, markers: { width: 2, fill: () => "transparent", dash: (plot, number) => (curves[number - 1]?.split === "test" ? "dotted" : plot.series[number].dash?.length ? "dashed" : "solid"), stroke: (plot, number) => plot.series[number].stroke(plot, number) } },
      hooks: { drawClear: [(plot) => bands(plot, curves[0].run, look.axis)], ...(few ? {} : { setSeries: [name], setCursor: [(plot) => name(plot)] }) },
    };
  }

  function lineOf(curve, look) {
    return {
      label: printable(label(curve)),
      stroke: colourOf(look.many ? curve.number : curve.other < 0 ? Math.max(0, Object.keys(DASHES).indexOf(curve.split)) : Object.keys(DASHES).length + curve.other),
      width: curve.split === "train" ? 1.2 : 2,
      dash: curve.split === "test" ? undefined : DASHES[curve.split] ?? OTHER_DASHES[curve.other % OTHER_DASHES.length],
      spanGaps: true,
      points: { show: pointsOf(curve), size: curve.split === "test" ? 9 : 5 },
      value: (_, value) => (value === null || value === undefined ? "" : figure(value)),
    };
  }

  /** Write the name of the line at the pointer, where there is no legend. */
  function name(plot, at = plot.focused) {
    plot.focused = at;
    const value = at ? plot.data[at][plot.cursor.idxs?.[at] ?? plot.cursor.idx] : null;
    caption.textContent = at ? `${plot.series[at].label} ${value === null || value === undefined ? "" : figure(value)}` : "";
  }

  /** Let the lines of a run stand out; of none, with null. */
  function point(run) {
    if (!plot) return;
    const at = run === null ? null : 1 + plot.curves.findIndex((curve) => curve.run === run && curve.split !== "train");
    plot.setSeries(at || null, { focus: true });
  }

  function remove() {
    plot?.destroy();
    element.remove();
  }
  return { element, update, point, remove };
}

/** Whether single points are marked. */
function pointsOf(curve) {
  return curve.steps.length < 40 || curve.split === "test";
}

/** Whether a chart shows all of its steps. */
function showsAll(plot) {
  const [steps] = plot.data, { min, max } = plot.scales.x;
  return min === null || (min <= steps[0] && max >= steps.at(-1));
}

/** The columns of a chart: steps (or epochs), and the values of each curve at them. */
function tableOf(curves, look) {
  const many = curves.length > MOST_IN_LEGEND;
  return uPlot.join(curves.map((curve) => [(many ? aligned(curve) : curve.steps).map((step) => at(curve.run, step, look.axis)), curve.values]));
}

/** The steps of a thinned curve at the start and the middle of its ranges, where those of other curves are too. */
function aligned({ steps, width }) {
  if (!(width > 1)) return steps;
  let before = -1;
  return steps.map((step) => {
    const start = Math.floor(step / width) * width;
    const isSecond = start === before;
    before = start;
    return isSecond ? start + width / 2 : start;
  });
}

/** Paint the phases of a run behind its curves. */
function bands(plot, run, axis) {
  const { ctx, bbox } = plot;
  ctx.save();
  for (const [number, phase] of run.phases.entries()) {
    const left = Math.max(bbox.left, plot.valToPos(at(run, phase.from, axis), "x", true));
    const right = Math.min(bbox.left + bbox.width, plot.valToPos(at(run, phase.to, axis), "x", true));
    if (right <= left) continue;
    ctx.fillStyle = variable(number % 2 ? "--band" : "--band2");
    ctx.fillRect(left, bbox.top, right - left, bbox.height);
    ctx.fillStyle = variable("--soft");
    ctx.font = `${11 * devicePixelRatio}px system-ui`;
    ctx.fillText(printable(phase.name ?? ""), left + 5 * devicePixelRatio, bbox.top + 14 * devicePixelRatio, right - left - 8);
  }
  ctx.restore();
}

function at(run, step, axis) {
  return axis === "epoch" ? step / (run.steps_per_epoch || 1) : step;
}
