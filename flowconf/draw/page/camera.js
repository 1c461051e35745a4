// The camera over the map: pan by dragging, zoom by the wheel or two fingers, fit into the window.

const LEAST = 0.05, MOST = 3;

/** A camera that moves `stage`, a group in the drawing `svg`. */
export function cameraOf(svg, stage) {
  const camera = { x: 0, y: 0, scale: 1 };
  const fingers = new Map();
  let moved = false;

  function apply() {
    stage.setAttribute("transform", `translate(${camera.x} ${camera.y}) scale(${camera.scale})`);
    svg.classList.toggle("far", camera.scale < 0.45);
  }

  function zoom(factor, x = svg.clientWidth / 2, y = svg.clientHeight / 2) {
    const scale = Math.min(MOST, Math.max(LEAST, camera.scale * factor));
    camera.x = x - ((x - camera.x) * scale) / camera.scale;
    camera.y = y - ((y - camera.y) * scale) / camera.scale;
    camera.scale = scale;
    apply();
  }

  function pan(dx, dy) {
    camera.x += dx;
    camera.y += dy;
    apply();
  }

  /** Show a size from its top, as large as fits, but legible. */
  function fit({ width, height }) {
    const margin = 24;
    const scale = Math.min((svg.clientWidth - 2 * margin) / width, (svg.clientHeight - 2 * margin) / height);
    camera.scale = Math.min(1.15, Math.max(0.5, scale));
    camera.x = Math.max(margin, (svg.clientWidth - width * camera.scale) / 2);
    camera.y = Math.max(margin, Math.min(60, (svg.clientHeight - height * camera.scale) / 2));
    if (width * camera.scale > svg.clientWidth - margin) camera.x = margin - Math.max(0, (width * camera.scale - svg.clientWidth) / 2);
    apply();
  }

  /** Move as little as needed to show a place. */
  function reveal({ x, y, width, height }) {
    const left = x * camera.scale + camera.x, top = y * camera.scale + camera.y, edge = 32;
    const right = left + width * camera.scale, bottom = top + height * camera.scale;
    const dx = left < edge ? edge - left : Math.min(0, Math.max(svg.clientWidth - edge - right, edge - left));
    const dy = top < edge ? edge - top : Math.min(0, Math.max(svg.clientHeight - edge - bottom, edge - top));
    pan(dx, dy);
  }

  /** Whether the wheel is for the page around the map: that scrolls, and the map does not have the focus. */
  const scrollsPage = () => (window !== window.top || document.documentElement.scrollHeight > innerHeight + 1) && !svg.contains(document.activeElement);

  svg.addEventListener("wheel", (event) => {
    if (!event.ctrlKey && !event.metaKey && scrollsPage()) return;
    event.preventDefault();
    const box = svg.getBoundingClientRect();
    if (event.ctrlKey || event.metaKey || !event.shiftKey) zoom(Math.exp(-event.deltaY * (event.ctrlKey ? 0.01 : 0.0015)), event.clientX - box.left, event.clientY - box.top);
    else pan(-event.deltaY, 0);
  }, { passive: false });
  svg.addEventListener("pointerdown", (event) => {
    fingers.set(event.pointerId, { x: event.clientX, y: event.clientY });
    moved = false;
  });
  svg.addEventListener("pointermove", (event) => {
    const before = fingers.get(event.pointerId);
    if (!before) return;
    const now = { x: event.clientX, y: event.clientY };
    if (fingers.size === 1) {
      if (!moved && Math.hypot(now.x - before.x, now.y - before.y) < 4) return;
      if (!moved) svg.setPointerCapture(event.pointerId);
      pan(now.x - before.x, now.y - before.y);
    } else {
      const other = [...fingers].find(([id]) => id !== event.pointerId)[1];
      const apart = (point) => Math.hypot(point.x - other.x, point.y - other.y);
      const box = svg.getBoundingClientRect();
      zoom(apart(now) / (apart(before) || 1), (now.x + other.x) / 2 - box.left, (now.y + other.y) / 2 - box.top);
    }
    moved = true;
    fingers.set(event.pointerId, now);
  });
  for (const name of ["pointerup", "pointercancel"]) svg.addEventListener(name, (event) => fingers.delete(event.pointerId));
  return { camera, fit, zoom, pan, reveal, apply, wasDragged: () => moved };
}
