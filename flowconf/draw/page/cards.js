// What is written on the card of a node, and how large it is.

import { folds } from "./tree.js";
import { percent, short } from "./numbers.js";

const LONGEST = 46, MOST_LINES = 3;
const FONTS = { name: "600 13px system-ui, sans-serif", call: "11.5px ui-monospace, monospace", small: "11px system-ui, sans-serif" };
const context = document.createElement("canvas").getContext("2d");
const widths = new Map();

/** The width of a text in one of the fonts of a card. */
export function widthOf(text, font) {
  const key = font + text;
  if (!widths.has(key)) {
    context.font = FONTS[font];
    widths.set(key, context.measureText(text).width);
  }
  return widths.get(key);
}

/** The verb of a node, with how often it runs; empty for the plain ones. */
export function verbOf(one) {
  if (one.kind === "range") return `${one.count} members`;
  const plain = ["through", "graph", undefined].includes(one.verb);
  const times = one.times ? ` × ${one.times}` : "";
  return (plain ? "" : one.verb) + times;
}

/** The lines of a card: its name, what it computes, and what it gives; `shown` is the overlay, if there is one. */
export function cardOf(one, shown) {
  if (one.kind === "joint") return { shape: "joint", lines: [], name: one.name };
  if (one.kind === "input" || one.kind === "output") return pill(one);
  const lines = [];
  const add = (text, kind) => text && lines.push(...broken(text).map((line) => ({ text: line, kind })));
  if (one.source_name && !one.open) add(one.source_name, "note");
  for (const call of one.calls ?? []) add(call, "call");
  if (one.reuses) add(`same weights as ${one.reuses}`, "note");
  for (const note of one.notes ?? []) add(note, "note");
  for (const note of weightNotes(one)) add(note, "note");
  add(one.shape && `→ ${one.shape}`, "shape");
  const count = one.reuses ? "" : one.parameters ? short(one.parameters) : "";
  const share = shown?.shares.get(one.id);
  const figure = share === undefined ? count : shown.texts?.get(one.id) ?? percent(share);
  return { shape: "card", name: shortened(one.name || one.verb || ""), verb: verbOf(one), figure, share, lines };
}

/** Where weights come from, follow and start. */
export function weightNotes(one) {
  const notes = [];
  const source = one.checkpoint && (one.checkpoint.config ?? one.checkpoint.path);
  if (source) notes.push(`weights from ${source}${one.checkpoint.at ? ` at ${one.checkpoint.at}` : ""}`);
  return [...notes, ...(one.relations ?? [])];
}

/** The width and height of a folded card. */
export function sizeOf(one, card) {
  if (card.shape === "joint") return { width: Math.max(24, widthOf(card.name, "name") + 14), height: 24 };
  if (card.shape === "pill") return { width: Math.max(12, widthOf(card.label, "small") + (card.label ? 20 : 0)), height: card.label ? 22 : 8 };
  const inner = Math.max(...card.lines.map((line) => widthOf(line.text, line.kind === "note" ? "small" : "call")), 0);
  const width = Math.max(inner, headWidth(one, card)) + 24;
  const lines = card.lines.length;
  return { width: Math.max(96, Math.ceil(width)), height: 32 + 16 * lines + (lines ? 4 : 0) + (card.share === undefined ? 0 : 4) };
}

/** The width that the head of a card or an open box takes. */
export function headWidth(one, card) {
  const extra = (one.tag ? widthOf(one.tag, "small") + 22 : 0) + (one.repeat ? widthOf(`× ${one.repeat}`, "name") + 10 : 0);
  const verb = card.verb ? widthOf(card.verb, "small") + 24 : 0;
  const figure = card.figure ? widthOf(card.figure, "small") + 16 : 0;
  return widthOf(card.name, "name") + verb + figure + extra + (folds(one) ? 18 : 0) + (one.frozen ? 20 : 0) + (one.open ? widthOf(one.source_name ?? "", "small") + 8 : 0);
}

/** The texts on a link: its name, and its shape if shapes are shown. */
export function labelOf(link, shapes) {
  const texts = [link.name, shapes && link.shape].filter(Boolean).map(shortened);
  return { texts, width: Math.max(0, ...texts.map((text) => widthOf(text, "call"))), height: 14 * texts.length };
}

function pill(one) {
  const label = [one.name, one.kind === "input" ? one.shape : ""].filter(Boolean).join("  ");
  return { shape: "pill", label: shortened(label), lines: [], name: one.name };
}

/** The lines of a long text: it breaks after commas. */
function broken(text) {
  const lines = [""];
  for (const part of text.split(/(?<=, )(?=\D)/)) {
    if (lines.at(-1) && (lines.at(-1) + part).trimEnd().length > LONGEST) lines.push("  ");
    lines.push(lines.pop() + part);
  }
  if (lines.length > MOST_LINES) lines.splice(MOST_LINES - 1, Infinity, `${lines[MOST_LINES - 1].trimEnd()} …`);
  return lines.map((line) => shortened(line.trimEnd()));
}

function shortened(text) {
  return text.length > LONGEST ? `${text.slice(0, LONGEST - 1)}…` : text;
}
