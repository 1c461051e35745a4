// The contrast of what a page shows, by the formula of WCAG 2.
(() => {
  const parsed = (text) => {
    if (!text || text === "none") return [0, 0, 0, 0];
    const isUnit = text.startsWith("color(srgb"), found = text.replace("srgb", "").match(/[\d.]+/g).map(Number);
    return [...found.slice(0, 3).map((part) => (isUnit ? 255 * part : part)), found[3] ?? 1];
  };
  const over = (top, below) => [...[0, 1, 2].map((at) => top[at] * top[3] + below[at] * (1 - top[3])), 1];
  const linear = (part) => (part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4);
  const light = (colour) => {
    const [r, g, b] = colour.map((part) => linear(part / 255));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b + 0.05;
  };
  const ratio = (a, b) => Math.max(light(a), light(b)) / Math.min(light(a), light(b));

  /** The ratio of two colours of the style. */
  const ofColours = (...names) => {
    const element = document.createElement("i");
    document.body.append(element);
    const colours = names.map((name) => {
      element.style.color = `var(--${name})`;
      return parsed(getComputedStyle(element).color);
    });
    element.remove();
    return ratio(...colours);
  };

  const faint = (element) => (element instanceof Element ? Number(getComputedStyle(element).opacity) * faint(element.parentNode) : 1);
  const isDrawn = (element) => element instanceof SVGElement && element.localName !== "svg";
  const painted = (element) => {
    const style = getComputedStyle(element), colour = parsed(isDrawn(element) ? style.fill : style.backgroundColor);
    return [...colour.slice(0, 3), colour[3] * faint(element)];
  };
  const sheet = matchMedia("(prefers-color-scheme: dark)").matches ? [18, 18, 18, 1] : [255, 255, 255, 1];
  const isGround = (element) => !["text", "tspan", "canvas"].includes(element.localName);
  const ground = (element, x, y) => {
    const all = document.elementsFromPoint(x, y), at = all.findIndex((one) => one === element || element.contains(one));
    return all.slice(Math.max(0, at)).filter(isGround).map(painted).reverse().reduce((behind, top) => over(top, behind), sheet);
  };

  /** The texts whose ratio to what is behind them is below 4.5, or 3 if they are large, apart from faded ones. */
  const lowTexts = () => {
    const low = {}, walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
    while (walker.nextNode()) {
      const node = walker.currentNode, element = node.parentElement, range = document.createRange();
      if (!node.data.trim() || element.closest("script, option, .faded") || !element.checkVisibility({ visibilityProperty: true })) continue;
      element.scrollIntoView({ block: "nearest", inline: "nearest" });
      range.selectNodeContents(node);
      const box = range.getBoundingClientRect(), x = box.x + box.width / 2, y = box.y + box.height / 2;
      if (x < 0 || y < 0 || x >= innerWidth || y >= innerHeight) continue;
      const style = getComputedStyle(element), behind = ground(element, x, y), ink = parsed(isDrawn(element) ? style.fill : style.color);
      const found = ratio(over([...ink.slice(0, 3), ink[3] * faint(element)], behind), behind);
      const size = parseFloat(style.fontSize), isLarge = size >= 24 || (size >= 18.66 && Number(style.fontWeight) >= 700);
      if (found < (isLarge ? 3 : 4.5)) low[`${element.localName}.${element.getAttribute("class")}: ${node.data.trim()}`] = found;
    }
    return low;
  };
  return { ofColours, lowTexts };
})()
