// What callbacks log besides numbers: images, histograms over the steps of a run, and texts.

import { variable } from "./colours.js";
import { lined, make } from "./dom.js";
import { digits, full } from "./numbers.js";

const WIDTH = 360, HEIGHT = 180, BASE64 = /^[A-Za-z0-9+/]+=*$/;

/** A PNG file in base64 as an image; null if it is none. */
export function pictureOf(png, name) {
  return BASE64.test(png) ? make("img", { src: `data:image/png;base64,${png}`, alt: name }) : null;
}

/** The elements that show the images, histograms and texts of a run. */
export function mediaOf({ images, histograms, texts }) {
  const all = [
    ...images.map(imageOf),
    ...Object.entries(histograms).map(([name, steps]) => histogramOf(name, steps)),
    ...Object.entries(texts).map(([name, steps]) => textOf(name, steps)),
  ];
  return all.length ? [make("div", { class: "media" }, all)] : [];
}

function imageOf({ name, step, file, png }) {
  const shown = pictureOf(png, name) ?? make("p", { class: "muted" }, `${file} is not in this page: it is missing or too large`);
  return figureOf(name, `step ${full(step)}`, shown);
}

/** The steps of a run from left to right, values from the bottom up, and counts as shades. */
function histogramOf(name, steps) {
  const low = Math.min(...steps.map((one) => one.edges[0])), high = Math.max(...steps.map((one) => one.edges[1]));
  const canvas = make("canvas", { width: WIDTH, height: HEIGHT, role: "img", "aria-label": `histograms of ${name}` });
  const ink = canvas.getContext("2d"), wide = WIDTH / steps.length, span = high - low || 1;
  ink.fillStyle = variable("--curve1");
  for (const [column, { edges: [first, last], counts }] of steps.entries()) {
    const most = Math.max(...counts) || 1, tall = ((last - first) / span / counts.length) * HEIGHT;
    for (const [bin, count] of counts.entries()) {
      if (!count) continue;
      ink.globalAlpha = 0.12 + 0.88 * (count / most);
      ink.fillRect(column * wide, HEIGHT - ((first - low) / span) * HEIGHT - (bin + 1) * tall, Math.max(1, wide - 0.5), Math.max(1, tall));
    }
  }
  const range = `${digits(low, 3)} to ${digits(high, 3)}, steps ${full(steps[0].step)} to ${full(steps.at(-1).step)}`;
  return figureOf(name, range, canvas);
}

function textOf(name, steps) {
  const lines = steps.map(({ step, text }) => [make("b", {}, `step ${full(step)}`), make("div", {}, lined(text))]);
  return figureOf(name, "", make("div", { class: "texts" }, lines));
}

function figureOf(name, note, ...content) {
  return make("figure", { "aria-label": name }, make("figcaption", {}, name, make("span", { class: "nearest" }, note)), content);
}
