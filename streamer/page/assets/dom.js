// Elements, made and kept in order. Whatever comes from outside becomes text, never markup.

const SVG = "http://www.w3.org/2000/svg";

/** An element with a class and children; strings become text. */
export function el(name, className, ...children) {
  const node = document.createElement(name);
  if (className) node.className = className;
  node.append(...children.filter((child) => child !== null));
  return node;
}

/** An element of a drawing. */
export function svg(name, attributes) {
  const node = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  return node;
}

/** Show a text, touching the page only where it differs. */
export function say(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

/** A text that somebody else wrote: kept apart, so that its direction turns nothing around it. */
export function quoted(className, text) {
  const node = el("bdi", className);
  node.textContent = text;
  return node;
}

/** Make the children of `parent` those of `items`, in order: those with a key that is there already are kept. */
export function keep(parent, items, keyOf, make, update) {
  const there = new Map(Array.from(parent.children, (node) => [node.dataset.key, node]));
  let before = parent.firstElementChild;
  for (const item of items) {
    const key = String(keyOf(item));
    let node = there.get(key);
    there.delete(key);
    if (node === undefined) {
      node = make(item);
      node.dataset.key = key;
    }
    if (node === before) before = before.nextElementSibling;
    else parent.insertBefore(node, before);
    update?.(node, item);
  }
  for (const node of there.values()) node.remove();
}
