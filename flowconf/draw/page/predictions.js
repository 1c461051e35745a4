// Predictions beside their targets: which classes are taken for which, and some rows.

import { make } from "./dom.js";
import { pictureOf } from "./media.js";
import { full, percent } from "./numbers.js";

/** The elements that show what a run predicts, one for each value that it compares with a field of the data. */
export function predictionsOf(tasks) {
  return tasks.map((task) => {
    const { predicted, target, of, split, step, confusion, rows = [], wrong = [] } = task;
    const score = confusion ? `${full(confusion.right)} of ${full(confusion.total)} right (${percent(confusion.right / (confusion.total || 1))}), ` : "";
    return make("div", { class: "compared" },
      make("h3", {}, `${predicted} for ${target}`, make("span", { class: "muted" }, `  ${score}${split}, step ${full(step)}, ${of.join(", ")}`)),
      make("div", { class: "beside" }, confusion && confusionOf(confusion), confusion?.pairs.length > 0 && pairsOf(confusion)),
      rowsOf("Wrong, the most confident first", wrong),
      rowsOf("The first rows", rows));
  });
}

/** A table with a row for each target and a column for each prediction; the shade is the share of the row. */
function confusionOf({ classes, counts }) {
  const names = classes.map(nameOf);
  const head = make("tr", {}, make("th", { scope: "col" }, "target"), names.map((name) => make("th", { scope: "col" }, name)));
  const body = counts.map((row, at) => {
    const whole = row.reduce((sum, count) => sum + count, 0) || 1;
    return make("tr", {}, make("th", { scope: "row" }, names[at]), row.map((count, other) => cell(count, count / whole, names[at], names[other], at === other)));
  });
  return make("div", { class: "wide" }, make("table", { class: "confusion" }, make("caption", {}, "prediction →"), make("thead", {}, head), make("tbody", {}, body)));
}

function cell(count, share, target, predicted, isRight) {
  const made = make("td", { class: isRight ? "right" : "wrong", title: `${target} taken for ${predicted}: ${full(count)} (${percent(share)} of ${target})` }, count ? full(count) : "");
  if (count) made.style.setProperty("--part", `${Math.round(8 + 52 * share)}%`);
  return made;
}

function pairsOf({ pairs }) {
  const rows = pairs.map(([target, predicted, count]) => make("li", {}, make("b", {}, nameOf(target)), " taken for ", make("b", {}, nameOf(predicted)), `: ${full(count)} ×`));
  return make("div", {}, make("h4", {}, "Most confused"), make("ol", { class: "pairs" }, rows));
}

function rowsOf(title, rows) {
  return rows.length > 0 && [make("h4", {}, title), make("div", { class: "samples" }, rows.map(rowOf))];
}

function rowOf({ inputs = {}, target, predicted, confidence = [], right }) {
  const isRight = right ?? null;
  const shown = Object.entries(inputs).map(([name, value]) => labelled(name, value));
  const sure = confidence.length === 1 ? `  ${percent(confidence[0])}` : "";
  const least = confidence.length > 1 ? [make("div", { class: "muted" }, `least confidence ${percent(Math.min(...confidence))}`)] : [];
  return make("div", { class: `sample${isRight === false ? " wrong" : ""}` }, shown,
    labelled("target", target), labelled(isRight === null ? "prediction" : isRight ? "prediction ✓" : "prediction ✗", predicted, sure), least);
}

/** A value under its name: a picture or a text. */
function labelled(name, { text = "", png = "" }, more = "") {
  const picture = pictureOf(png, name);
  return make("div", { class: picture ? "picture" : "" }, make("span", { class: "muted" }, `${name} `), picture ?? [make("b", {}, text), more]);
}

/** A class by its number; -1 stands for all that are not shown. */
function nameOf(number) {
  return number < 0 ? "others" : String(number);
}
