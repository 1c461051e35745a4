// The course of the statistics of a member over the steps of a run: a small chart of each.

import { draw, make } from "./dom.js";
import { figure, full } from "./numbers.js";

const WIDTH = 320, HEIGHT = 40;

/** Whether an overlay has values of a member at several steps. */
export function hasCourse({ history, steps }, one) {
  return Boolean(history?.[one.id]) && steps.length > 1;
}

/** The charts of a member, one for each of `overlays` that has a course. */
export function trendsOf(one, overlays) {
  const found = overlays.filter((overlay) => hasCourse(overlay, one));
  if (!found.length) return [];
  const steps = found.flatMap((overlay) => overlay.steps);
  return [make("h3", {}, `Statistics, steps ${full(Math.min(...steps))} to ${full(Math.max(...steps))}`), ...found.map((overlay) => trend(overlay, one))];
}

function trend({ title, steps, history, values }, one) {
  const points = history[one.id].map((value, at) => [steps[at], value]).filter(([, value]) => value !== null);
  const known = points.map(([, value]) => value), low = Math.min(...known), high = Math.max(...known);
  const across = (step) => (WIDTH * (step - steps[0])) / (steps.at(-1) - steps[0]);
  const down = (value) => (high > low ? HEIGHT * (1 - (value - low) / (high - low)) : HEIGHT / 2);
  const line = points.map(([step, value]) => `${across(step).toFixed(1)},${down(value).toFixed(1)}`).join(" ");
  const range = low < high ? `${figure(low)} to ${figure(high)}` : "";
  return make("div", { class: "trend" },
    make("div", {}, make("span", {}, title), make("b", {}, values[one.id][1]), make("span", { class: "muted" }, range)),
    draw("svg", { viewBox: `0 -2 ${WIDTH} ${HEIGHT + 4}`, preserveAspectRatio: "none", role: "img", "aria-label": `${title} over the steps: ${range}` }, draw("polyline", { points: line })));
}
