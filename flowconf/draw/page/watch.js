// The page of runs while they run: it asks its server for what is new, once a second, while it can be seen.

import { make } from "./dom.js";
import { Report } from "./report.js";

const BETWEEN = 1000, AFTER_FAILURE = 2000, SHARE = 0.2;

/** Show the runs of this page's server in the element `place`, from now on. */
export function showWatched(_, place) {
  const state = make("p", { class: "state", role: "status" });
  place.append(state);
  const report = new Report(place, () => null, graphOf);
  const runs = new Map();
  let since = "", differs = [], notes = [], waiting = null, isNew = false, rests = 0;

  async function look() {
    waiting = null;
    if (document.hidden) return;
    let answer;
    try {
      answer = await asked(`changes?since=${encodeURIComponent(since)}`);
    } catch (problem) {
      state.textContent = problem.message;
      waiting = setTimeout(look, AFTER_FAILURE);
      return;
    }
    isNew = take(answer) || isNew;
    if (isNew && (!answer.behind || performance.now() > rests)) show(answer.order);
    state.textContent = answer.behind ? `reading the logs: ${Math.floor(100 * answer.read)} %` : "";
    waiting = setTimeout(look, answer.behind ? 0 : BETWEEN);
  }

  /** Show the runs; while logs are read, this takes at most `SHARE` of the time. */
  function show(order) {
    const start = performance.now();
    report.update({ runs: order.map((id) => runs.get(id)), differs, notes });
    isNew = false;
    rests = performance.now() + (performance.now() - start) / SHARE;
  }

  /** Merge an answer into what is known. Returns whether anything is new. */
  function take(answer) {
    const isFirst = since === "" || since.split("-")[0] !== answer.change.split("-")[0];
    if (isFirst) runs.clear();
    since = answer.change;
    for (const id of [...runs.keys()]) if (!answer.order.includes(id)) runs.delete(id);
    for (const [id, news] of Object.entries(answer.runs)) runs.set(id, merged(runs.get(id) ?? { id, curves: {}, media: null, phases: [], step: 0, hidden: false }, news));
    if (answer.differs) ({ differs, notes } = answer);
    return isFirst || Boolean(answer.differs) || Object.keys(answer.runs).length > 0;
  }

  document.addEventListener("visibilitychange", () => !document.hidden && waiting === null && look());
  look();
}

function merged(run, { curves = {}, again = false, ...news }) {
  Object.assign(run, news);
  if (again) run.curves = {};
  for (const [name, curve] of Object.entries(curves)) run.curves[name] = curve.whole ? curve : extended(run.curves[name], curve);
  return run;
}

/** A curve with new points in place of those from the first of them on. */
function extended(curve, { steps, values, width }) {
  const start = Math.floor(steps[0] / width) * width;
  let kept = curve.steps.length;
  while (kept && curve.steps[kept - 1] >= start) kept -= 1;
  return { steps: [...curve.steps.slice(0, kept), ...steps], values: [...curve.values.slice(0, kept), ...values], width };
}

/** The graph of a run, or notes why there is none. */
async function graphOf(run) {
  try {
    return await asked(`graph?run=${encodeURIComponent(run.id)}`);
  } catch (problem) {
    return { graph: null, notes: [problem.message] };
  }
}

async function asked(address) {
  let answer;
  try {
    answer = await fetch(`${location.pathname.replace(/\/$/, "")}/${address}`, { cache: "no-store" });
  } catch {
    throw new Error("flowconf watch does not answer; trying again …");
  }
  if (answer.status === 404) throw new Error("flowconf watch was started again: open the address that it printed");
  if (!answer.ok) throw new Error(`flowconf watch answers ${answer.status}; trying again …`);
  return answer.json();
}
