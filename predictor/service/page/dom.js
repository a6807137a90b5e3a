// The only place where elements are made. Texts become text nodes: nothing is ever read as HTML.
const SVG = "http://www.w3.org/2000/svg";

export const $ = (id) => document.getElementById(id);

function fill(made, attributes, children) {
  for (const [key, value] of Object.entries(attributes)) {
    if (value === undefined || value === null || value === false) continue;
    made.setAttribute(key, value === true ? "" : value);
  }
  made.append(...children.flat().filter((child) => child !== undefined && child !== null && child !== false));
  return made;
}

export const element = (tag, attributes = {}, ...children) =>
  fill(document.createElement(tag), attributes, children);

export const drawn = (tag, attributes = {}, ...children) =>
  fill(document.createElementNS(SVG, tag), attributes, children);

export function button(text, onClick, attributes = {}) {
  const made = element("button", { type: "button", ...attributes }, text);
  made.addEventListener("click", onClick);
  return made;
}

/** A name that may break after its dots, dashes and the like, and anywhere only where that is too little. */
export const breakable = (text) => text.split(/(?<=[._/:,])/).flatMap((part, i) => i ? [element("wbr"), part] : [part]);

/** A value with a smaller one under it. */
export const twoLines = (first, second) => [first, " ", element("small", {}, second)].flat();

/** What a screen reader says once; emptied first, so that the same words are said again. */
export function say(text) {
  const place = $("say");
  place.textContent = "";
  setTimeout(() => { place.textContent = text; }, 40);
}

/** Shows a message in its place beside the field, or hides it where `text` is empty. */
export function complain(place, text, field, ...extra) {
  place.hidden = !text;
  place.replaceChildren(...(text ? [text, ...extra] : []));
  if (!field) return;
  if (text) field.setAttribute("aria-invalid", "true");
  else field.removeAttribute("aria-invalid");
}

/** Takes the reader to an answer that stands below its form; beside the form it is in sight. */
export function goTo(answer, form) {
  if (answer.getBoundingClientRect().top < form.getBoundingClientRect().bottom - 1) return;
  answer.querySelector("h2[tabindex]")?.focus({ preventScroll: true });
  answer.scrollIntoView();
}

export function download(name, data) {
  const blob = new Blob([JSON.stringify(data, null, 1) + "\n"], { type: "application/json" });
  const url = URL.createObjectURL(blob);
  element("a", { href: url, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(url), 10000);
}

/** Draws now and whenever the width of `box` changes: letters keep their size, lines their room. */
export function drawnToFit(box, draw) {
  let width = 0;
  const redraw = () => {
    const now = Math.round(box.clientWidth);
    if (!now || now === width) return;
    width = now;
    box.replaceChildren(draw(Math.max(now, 260)));
  };
  new ResizeObserver(redraw).observe(box);
  return box;
}
