// Predictions beside their targets: which classes are taken for which, and some rows.

import { make } from "./dom.js";
import { pictureOf } from "./media.js";
import { full, percent } from "./numbers.js";

const OTHERS = "others", LONGEST = 4;

/** The elements that show what a run predicts: each value that it compares with a field of the data, and the first rows. */
export function predictionsOf({ split, step, inputs = [], tasks }) {
  const first = tasks[0]?.rows.map((_, at) => firstRow(at, inputs, tasks)) ?? [];
  return [
    make("p", { class: "muted" }, `The rows of ${split}, by the weights of step ${full(step)}.`),
    tasks.map(comparedOf),
    make("h3", {}, "The first rows"),
    make("div", { class: "samples" }, first),
  ];
}

function comparedOf({ predicted, target, of, confusion, wrong = [] }) {
  if (!confusion) return null;
  const { right, total, pairs } = confusion;
  return make("div", { class: "compared" },
    make("h3", {}, `${predicted} for ${target}`, make("span", { class: "muted" }, `  ${full(right)} of ${full(total)} right (${percent(right / (total || 1))}), ${of.join(", ")}`)),
    make("div", { class: "beside" }, confusionOf(confusion), pairs.length > 0 && pairsOf(confusion)),
    wrong.length > 0 && [make("h4", {}, "Wrong, the most confident first"), make("div", { class: "samples" }, wrong.map(wrongRow))]);
}

/** A table with a row for each target and a column for each prediction; the shade is the share of the row. */
function confusionOf({ classes, counts, names: known = {} }) {
  const names = classes.map((number) => nameOf(number, known));
  const isWide = names.some((name) => name.length > LONGEST && name !== OTHERS);
  const head = make("tr", {}, make("th", { scope: "col" }, "target"), names.map((name) => make("th", { scope: "col" }, name)));
  const body = counts.map((row, at) => {
    const whole = row.reduce((sum, count) => sum + count, 0) || 1;
    return make("tr", {}, make("th", { scope: "row" }, names[at]), row.map((count, other) => cell(count, count / whole, names[at], names[other], at === other)));
  });
  return make("div", { class: "wide" }, make("table", { class: isWide ? "confusion upright" : "confusion" }, make("caption", {}, "prediction →"), make("thead", {}, head), make("tbody", {}, body)));
}

function cell(count, share, target, predicted, isRight) {
  const made = make("td", { class: isRight ? "right" : "wrong", title: `${target} taken for ${predicted}: ${full(count)} (${percent(share)} of ${target})` }, count ? full(count) : "");
  if (count) made.style.setProperty("--part", `${Math.round(8 + 52 * share)}%`);
  return made;
}

function pairsOf({ pairs, names = {} }) {
  const rows = pairs.map(([target, predicted, count]) => make("li", {}, make("b", {}, nameOf(target, names)), " taken for ", make("b", {}, nameOf(predicted, names)), `: ${full(count)} ×`));
  return make("div", {}, make("h4", {}, "Most confused"), make("ol", { class: "pairs" }, rows));
}

function wrongRow(row) {
  return make("div", { class: "sample wrong" }, inputsOf(row.inputs), compared("target", "prediction", row));
}

/** A row with all that is predicted for it. */
function firstRow(at, inputs, tasks) {
  const rows = tasks.filter(({ rows }) => rows[at]);
  return make("div", { class: "sample" }, inputsOf(inputs[at]), rows.map(({ predicted, target, rows }) => compared(target, predicted, rows[at])));
}

function inputsOf(inputs = {}) {
  return Object.entries(inputs).map(([name, value]) => labelled(name, value));
}

function compared(target, predicted, row) {
  const { confidence = [], right = null } = row;
  const sign = right === null ? "" : right ? " ✓" : " ✗";
  const sure = confidence.length ? `  ${percent(Math.min(...confidence))}` : "";
  return make("div", { class: right === false ? "pair-of wrong" : "pair-of" }, labelled(target, row.target), labelled(predicted + sign, row.predicted, sure));
}

/** A value under its name: a picture or a text. */
function labelled(name, { text = "", png = "" }, more = "") {
  const picture = pictureOf(png, name);
  return make("div", { class: picture ? "picture" : "" }, make("span", { class: "muted" }, `${name} `), picture ?? [make("b", {}, text), more]);
}

/** A class by its name, or its number; -1 stands for all that are not shown. */
function nameOf(number, names) {
  return number < 0 ? OTHERS : names[number] ?? String(number);
}
