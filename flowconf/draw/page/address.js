// The view in the address of the page, so that a link shows the same.

const KEEPS = ["http:", "https:", "file:"].includes(location.protocol);

/** What the address says: the open nodes (null if it says nothing of them), the selected one, overlay and shapes. */
export function readAddress() {
  const given = new URLSearchParams(location.hash.slice(1));
  const open = given.get("open");
  return { open: open === null ? null : open.split("|").filter(Boolean), at: given.get("at"), show: given.get("show") ?? "", shapes: given.get("shapes") === "1" };
}

/** Write the view into the address; a page that is embedded has none. */
export function writeAddress({ open, at, show, shapes }) {
  if (!KEEPS) return;
  const given = new URLSearchParams();
  if (open !== null) given.set("open", open.join("|"));
  if (at) given.set("at", at);
  if (show) given.set("show", show);
  if (shapes) given.set("shapes", "1");
  const text = given.toString();
  history.replaceState(null, "", text ? `#${text}` : location.pathname + location.search);
}
