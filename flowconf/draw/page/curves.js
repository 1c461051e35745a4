// Charts of curves: one for each quantity, with a line for each split and run, and the phases as bands.

import { make, printable } from "./dom.js";

const DASHES = { train: [5, 4], val: [], test: [1, 4] };
const HEIGHT = 230;

/** The quantities of some runs: what is behind the split (`val/loss` -> `loss`), with their curves. */
export function quantities(runs) {
  const found = new Map();
  for (const [number, run] of runs.entries()) {
    for (const [name, curve] of Object.entries(run.curves)) {
      const [split, ...rest] = name.split("/");
      const isSplit = rest.length > 0 && split in DASHES;
      const key = isSplit ? rest.join("/") : name;
      if (!found.has(key)) found.set(key, []);
      found.get(key).push({ run, number, name, split: isSplit ? split : "", steps: curve.steps, values: curve.values });
    }
  }
  return found;
}

/** A chart in the element `place`; `look` has the axis of time and the scale. Gives a function that removes it. */
export function chart(title, curves, look, place, label) {
  const colours = palette();
  const tables = curves.map((curve) => [curve.steps.map((step) => at(curve.run, step, look.axis)), curve.values]);
  const data = uPlot.join(tables);
  const rank = new Map([...new Set(curves.map((curve) => (look.many ? curve.number : curve.split)))].map((key, index) => [key, index]));
  const series = curves.map((curve) => ({
    label: printable(label(curve)),
    stroke: colours[rank.get(look.many ? curve.number : curve.split) % colours.length],
    width: curve.split === "train" ? 1.2 : 2,
    dash: curve.split === "test" ? undefined : DASHES[curve.split],
    spanGaps: true,
    points: { show: curve.steps.length < 40 || curve.split === "test", size: curve.split === "test" ? 9 : 5 },
    value: (_, value) => (value === null || value === undefined ? "" : figure(value)),
  }));
  const ink = variable("--soft"), line = variable("--line");
  const axis = { stroke: ink, grid: { stroke: line, width: 0.5 }, ticks: { stroke: line, width: 0.5 }, font: "11px system-ui" };
  const positive = curves.every((curve) => curve.values.every((value) => value === null || value > 0));
  const box = make("figure", { "aria-label": title }, make("figcaption", {}, title));
  place.append(box);
  const options = {
    width: Math.max(240, box.clientWidth - 22),
    height: HEIGHT,
    scales: { x: { time: false }, y: look.log && positive ? { distr: 3 } : {} },
    axes: [{ ...axis, size: 34 }, { ...axis, size: 62, values: (_, ticks) => ticks.map((tick) => (tick === null ? "" : figure(tick))) }],
    series: [{ label: look.axis, value: (_, value) => (value === null ? "" : figure(value)) }, ...series],
    cursor: { sync: { key: "report" }, drag: { x: true, y: false } },
    legend: { live: true, markers: { width: 2, fill: () => "transparent", dash: (plot, number) => (plot.series[number].dash?.length ? "dashed" : "solid"), stroke: (plot, number) => plot.series[number].stroke(plot, number) } },
    hooks: { drawClear: [(plot) => bands(plot, curves[0].run, look.axis)] },
  };
  const plot = new uPlot(options, data, box);
  return () => {
    plot.destroy();
    box.remove();
  };
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

function palette() {
  return [1, 2, 3, 4, 5, 6].map((number) => variable(`--curve${number}`));
}

function variable(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(name).trim();
}

function figure(value) {
  const size = Math.abs(value);
  return size !== 0 && (size < 1e-3 || size >= 1e6) ? value.toExponential(2) : String(Number(value.toPrecision(4)));
}
