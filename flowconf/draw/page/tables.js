// Tables of runs: what they were set to, how they went, and their parts.

import { colourOf, letterOf } from "./colours.js";
import { splitsOf } from "./curves.js";
import { button, make } from "./dom.js";
import { digits, full } from "./numbers.js";

/** The values of one run with its best weights: a row for each quantity, and a column for each split. */
export function results(run) {
  const splits = splitsOf([run]).filter((split) => `${split}/loss` in run.metrics);
  const rows = new Map();
  for (const [name, value] of Object.entries(run.metrics)) {
    const [first, ...rest] = name.split("/"), column = splits.indexOf(first);
    const key = column < 0 ? name : rest.join("/");
    if (!rows.has(key)) rows.set(key, [key, ...splits.map(() => "")]);
    rows.get(key)[1 + Math.max(0, column)] = digits(value, 5);
  }
  return rows.size ? table(["best weights", ...splits], [...rows.values()], "results") : make("p", { class: "muted" }, "Nothing has been evaluated.");
}

/**
 * The runs as rows: what differs in their settings, and their best values. A click on a title sorts; `acts` has what is done when a run is
 * chosen, hidden, or pointed at.
 */
export function runsTable({ runs, differs }, sorting, acts) {
  const names = [...new Set(runs.flatMap((run) => Object.keys(run.metrics)))].filter((name) => name.split("/").length === 2);
  const steps = runs.some((run) => run.step);
  const columns = [
    { title: "run", value: (_, number) => number },
    { title: "status", value: (run) => run.status },
    steps && { title: "step", value: (run) => run.step ?? 0, text: full, right: true },
    ...differs.map(({ key, values }) => ({ title: key, value: (_, number) => asNumber(values[number]), text: (value) => String(value ?? "") })),
    ...names.map((name) => ({ title: name, value: (run) => run.metrics[name] ?? null, text: (value) => (value === null ? "" : digits(value, 5)), right: true })),
  ].filter(Boolean);
  const order = [...runs.keys()];
  const by = columns.find((column) => column.title === sorting.by);
  if (by) order.sort((a, b) => sorting.sign * compare(by.value(runs[a], a), by.value(runs[b], b)));
  const head = columns.map((column) => {
    const arrow = column === by ? (sorting.sign > 0 ? " ↑" : " ↓") : "";
    return make("th", { class: column.right && "right" }, button(column.title + arrow, () => acts.sort(column.title)));
  });
  const body = order.map((number) => row(runs[number], number, columns, acts));
  return make("div", { class: "wide tall" }, make("table", { class: "runs" }, make("thead", {}, make("tr", {}, head)), make("tbody", {}, body)));
}

function row(run, number, columns, acts) {
  const [, ...others] = columns;
  const swatch = make("span", { class: "swatch" });
  swatch.style.background = colourOf(number);
  const box = make("input", { type: "checkbox", "aria-label": `show ${run.name}`, onchange: () => acts.hide(run) });
  box.checked = !run.hidden;
  const name = button(run.name, () => acts.choose(run));
  const cells = others.map((column) => {
    const text = (column.text ?? String)(column.value(run, number));
    return make("td", { class: column.right && "right", title: text.length > 40 && text }, text.length > 40 ? `${text.slice(0, 39)}…` : text);
  });
  return make("tr", { class: `run-${run.status}`, onmouseenter: () => acts.point(run), onmouseleave: () => acts.point(null) }, make("td", {}, box, swatch, make("b", {}, letterOf(number)), " ", name), cells);
}

function compare(a, b) {
  const empty = (value) => value === null || value === "";
  if (empty(a) || empty(b)) return empty(a) - empty(b);
  return typeof a === typeof b ? (a < b ? -1 : Number(a > b)) : typeof a === "number" ? -1 : 1;
}

function asNumber(text) {
  return text !== "" && text !== undefined && Number.isFinite(Number(text)) ? Number(text) : (text ?? null);
}

/** The settings of a run, with where they were written. */
export function settings(run) {
  return table(["setting", "value", "written at"], run.settings, "settings");
}

function table(head, rows, kind) {
  const cells = (row, tag) => row.map((cell) => make(tag, {}, cell ?? ""));
  return make("div", { class: "wide" }, make("table", { class: kind }, make("thead", {}, make("tr", {}, cells(head, "th"))), make("tbody", {}, rows.map((row) => make("tr", {}, cells(row, "td"))))));
}
