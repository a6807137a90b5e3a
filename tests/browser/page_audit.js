// What an auditor looks for: names, labels, headings, contrast. Returns a list of complaints.
const wrong = [];
const seen = (e) => e.checkVisibility({ opacityProperty: false, visibilityProperty: true });
const which = (e) => `${e.tagName.toLowerCase()}${e.id ? "#" + e.id : ""}.${e.getAttribute("class") ?? ""} '${(e.textContent || "").trim().slice(0, 40)}'`;

// -- names ----------------------------------------------------------------------------------------

const byIds = (ids) => (ids ?? "").split(/\s+/).filter(Boolean).map((id) => document.getElementById(id)?.textContent ?? "").join(" ");
const nameOf = (e) => (e.getAttribute("aria-label") || byIds(e.getAttribute("aria-labelledby")) ||
  [...(e.labels ?? [])].map((label) => label.textContent).join(" ") || e.textContent || "").trim();
for (const e of document.querySelectorAll("button, a[href], summary, [role=tab], [role=region], [role=group], [role=img], input, select, textarea, progress")) {
  if (seen(e) && !nameOf(e)) wrong.push(`no name: ${which(e)}`);
}
for (const e of document.querySelectorAll("input, select, textarea")) {
  if (seen(e) && !e.labels?.length && !e.getAttribute("aria-label")) wrong.push(`no label: ${which(e)}`);
}
for (const attribute of ["aria-labelledby", "aria-describedby", "aria-controls", "for"]) {
  for (const e of document.querySelectorAll(`[${attribute}]`)) {
    for (const id of e.getAttribute(attribute).split(/\s+/)) if (!document.getElementById(id)) wrong.push(`${attribute} leads nowhere: ${id}`);
  }
}
const ids = [...document.querySelectorAll("[id]")].map((e) => e.id);
for (const id of new Set(ids.filter((id, i) => ids.indexOf(id) !== i))) wrong.push(`id twice: ${id}`);

// -- structure ------------------------------------------------------------------------------------

if (document.querySelectorAll("h1").length !== 1) wrong.push("not one h1");
let level = 0;
for (const e of document.querySelectorAll("h1, h2, h3, h4, h5, h6")) {
  if (!seen(e)) continue;
  const now = Number(e.tagName[1]);
  if (now > level + 1) wrong.push(`heading skips a level: ${which(e)}`);
  level = now;
}
for (const css of ["main", "header", "footer", "[role=tablist]", "[aria-live], [role=status]"]) {
  if (!document.querySelector(css)) wrong.push(`no ${css}`);
}
if (!document.documentElement.lang) wrong.push("no language");
for (const e of document.querySelectorAll("th")) if (!e.scope) wrong.push(`th without scope: ${which(e)}`);
for (const table of document.querySelectorAll("table")) {
  if (table.querySelectorAll("[aria-sort]").length > 1) wrong.push("two columns say that they are sorted");
  if (!table.getAttribute("aria-label") && !table.caption) wrong.push("table without a name");
}
for (const e of document.querySelectorAll("[tabindex]")) if (e.tabIndex > 0) wrong.push(`tabindex above 0: ${which(e)}`);

// -- contrast -------------------------------------------------------------------------------------

const context = Object.assign(document.createElement("canvas"), { width: 1, height: 1 }).getContext("2d", { willReadFrequently: true });
const read = new Map();
function rgba(colour) {
  if (!read.has(colour)) {
    context.clearRect(0, 0, 1, 1);
    context.fillStyle = colour;
    context.fillRect(0, 0, 1, 1);
    read.set(colour, [...context.getImageData(0, 0, 1, 1).data]);
  }
  return read.get(colour);
}
const over = ([r, g, b, a], under) => [r, g, b].map((v, i) => v * a / 255 + under[i] * (1 - a / 255));
function behind(e) {
  const layers = [];
  for (let at = e; at; at = at.parentElement) layers.push(rgba(getComputedStyle(at).backgroundColor));
  const page = rgba(getComputedStyle(document.body).backgroundColor);
  return layers.reverse().reduce((under, layer) => over(layer, under), page.slice(0, 3));
}
const luminance = (rgb) => rgb.map((v) => v / 255).map((v) => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
  .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
function ratio(a, b) {
  const [high, low] = [luminance(a), luminance(b)].sort((x, y) => y - x);
  return (high + 0.05) / (low + 0.05);
}
const told = new Set();
const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
let texts = 0;
while (walker.nextNode()) {
  const e = walker.currentNode.parentElement;
  if (!walker.currentNode.data.trim() || !seen(e) || e.closest("script, noscript, title, desc, option, datalist, .unseen")) continue;
  const style = getComputedStyle(e), under = behind(e);
  const ink = over(rgba(e.closest("svg") ? style.fill : style.color), under);
  const size = Number.parseFloat(style.fontSize), large = size >= 24 || (size >= 18.66 && style.fontWeight >= 700);
  const got = ratio(ink, under);
  texts += 1;
  if (got < (large ? 3 : 4.5) && !told.has(which(e))) {
    told.add(which(e));
    wrong.push(`contrast ${got.toFixed(2)}: ${which(e)}`);
  }
}
for (const e of document.querySelectorAll("input:not([type=radio], [type=checkbox], [type=file]), select, textarea")) {
  if (!seen(e)) continue;
  const edge = ratio(over(rgba(getComputedStyle(e).borderTopColor), behind(e.parentElement)), behind(e.parentElement));
  if (edge < 3) wrong.push(`edge of a field ${edge.toFixed(2)}: ${which(e)}`);
}
if (texts < 30) wrong.push(`only ${texts} texts`);
return wrong.slice(0, 20);
