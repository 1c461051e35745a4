// Elements from plain data. Every text of a document enters the page here, as text.

const SVG = "http://www.w3.org/2000/svg";
const UNUSUAL = /[\p{Cc}\p{Cf}\p{Co}\p{Cs}\p{Zl}\p{Zp}]/gu;

/** The text with control and direction characters as escapes (`\u202e`), so that it reads as what it is. */
export function printable(text) {
  return String(text).replace(UNUSUAL, (letter) => {
    const code = letter.codePointAt(0);
    return code < 256 ? `\\x${code.toString(16).padStart(2, "0")}` : `\\u${code.toString(16).padStart(4, "0")}`;
  });
}

/** An HTML element; a child is an element or a text, and what is null or false is left out. */
export function make(tag, attributes = {}, ...children) {
  return filled(document.createElement(tag), attributes, children);
}

/** An SVG element, as `make`. */
export function draw(tag, attributes = {}, ...children) {
  return filled(document.createElementNS(SVG, tag), attributes, children);
}

function filled(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (value !== null && value !== false && value !== undefined) element.setAttribute(name, value === true ? "" : printable(value));
  }
  for (const child of children.flat(Infinity)) {
    if (child === null || child === false || child === undefined) continue;
    element.append(child instanceof Node ? child : printable(child));
  }
  return element;
}

/** A button that calls `act`. */
export function button(text, act, attributes = {}) {
  return make("button", { type: "button", onclick: act, ...attributes }, text);
}

/** The names and values of `rows`, apart from those without a value. */
export function facts(rows) {
  const shown = rows.filter(([, value]) => value);
  return make("dl", {}, shown.map(([name, value]) => [make("dt", {}, name), make("dd", {}, lined(String(value)))]));
}

/** Lines of code. */
export function block(lines, look = null) {
  return make("pre", { tabindex: "0", class: look }, lines.map((line) => make("span", { class: "line" }, line)));
}

/** A text with its line ends. */
export function lined(text) {
  return text.split("\n").flatMap((line, number) => (number ? [make("br"), line] : [line]));
}
