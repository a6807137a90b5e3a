// What a search found: accuracy over latency, the front as a table, and all trials to download.
import { button, download, drawn, drawnToFit, element, say } from "./dom.js";
import { around } from "./scales.js";
import { dataTable } from "./table.js";
import { capped, count, megabytes, milliseconds, percent, printable, span } from "./units.js";

const compact = new Intl.NumberFormat("en", { notation: "compact", maximumFractionDigits: 2 });

export function accuracyText(value, unit) {
  if (typeof value !== "number") return "–";
  if (unit === "%") return `${value.toFixed(2)} %`;
  const text = Math.abs(value) >= 1e6 ? compact.format(value).replace(/(?=[A-Z])/, " ") : String(Number(value.toPrecision(4)));
  return unit ? `${text} ${printable(unit)}` : text;
}

const latency = (trial, device) => trial.figures[`latency_ms ${device}`];
const ends = (trial, device) => [trial.figures[`low_ms ${device}`], trial.figures[`high_ms ${device}`]];

/** The front, the most accurate first. */
const frontOf = (result) => result.trials.filter((trial) => trial.on_front)
  .sort((a, b) => (b.accuracy ?? 0) - (a.accuracy ?? 0));

/** Cards of a search's result. `take(key)` shows the layers of a network, where its space has names. */
export function frontCards(result, { take, titleOf, partial }) {
  const front = frontOf(result), device = result.devices[0];
  const scored = result.trials.filter((trial) => trial.accuracy !== null);
  const feasible = scored.filter((trial) => trial.feasible);
  const best = front[0];
  const chips = [`accuracy by ${printable(result.signal)}`, `sampler ${printable(result.sampler)}`, `seed ${result.seed ?? "none"}`,
    ...result.limits.map((limit) => limitText(limit, titleOf)), partial && "cancelled: what was found until then"].filter(Boolean);
  const head = element("section", { class: "card", "aria-labelledby": "front-title" },
    element("div", { class: "title-row" },
      element("h2", { id: "front-title", tabindex: "-1" }, `Search in ${printable(result.space)}: ${front.length} on the front`),
      button("Download JSON", () => download("front.json", result), { class: "small" })),
    element("ul", { class: "chip-line" }, chips.map((text) => element("li", {}, text))),
    best ? hero(best, device, result, titleOf) : element("p", { class: "verdict over" }, noneText(result)),
    element("p", { class: "soft small below" },
      `${result.trials.length} trials, ${scored.length} scored, ${feasible.length} of them within all limits.`));
  return [head, device && scored.length ? picture(result, front, titleOf) : null,
    front.length ? tableCard(result, front, { take, titleOf }) : null, notes(result)].filter(Boolean);
}

function limitText(limit, titleOf) {
  if (limit.device) return `limit ${milliseconds(limit.limit)} on ${titleOf(limit.device)}`;
  const value = limit.quantity.endsWith("_mb") ? megabytes(limit.limit) : count(limit.limit);
  return `limit ${printable(limit.quantity.replace(/_mb$/, "").replaceAll("_", " "))} ${value}`;
}

function noneText(result) {
  return result.trials.length ? "No trial within all limits was scored." : "No trial was looked at yet.";
}

function hero(best, device, result, titleOf) {
  const block = (name, value, kind) => element("div", {}, element("div", { class: "soft small" }, name), element("div", { class: kind }, value));
  const blocks = [block(`best accuracy, by ${printable(result.signal)}`, accuracyText(best.accuracy, result.unit), "value")];
  if (device && latency(best, device) !== undefined) {
    const [low, high] = ends(best, device);
    blocks.push(block(`on ${titleOf(device)}`, milliseconds(latency(best, device)), "second"),
      block("90 % interval", span([low, high], latency(best, device)), "second"));
  }
  if (best.figures.risk) blocks.push(block("risk to be over", percent(best.figures.risk), "second"));
  return element("div", { class: "hero" }, blocks);
}

// -- the picture ----------------------------------------------------------------------------------

const circle = (x, y, r) => `M${x - r} ${y}a${r} ${r} 0 1 0 ${2 * r} 0a${r} ${r} 0 1 0 ${-2 * r} 0`;
const triangle = (x, y, r) => `M${x} ${y - r}l${r} ${1.8 * r}h${-2 * r}z`;
const square = (x, y, r) => `M${x} ${y - 1.25 * r}l${1.25 * r} ${1.25 * r}l${-1.25 * r} ${1.25 * r}l${-1.25 * r} ${-1.25 * r}z`;
const MARKS = [["best", "on the front", square(8, 8, 5)], ["ok", "within all limits", circle(8, 8, 4.5)], ["no", "over a limit", triangle(8, 8, 5)]];

function picture(result, front, titleOf) {
  const legend = element("div", { class: "legend" }, MARKS.map(([kind, words, d]) => element("span", {},
    drawn("svg", { class: "key-mark", viewBox: "0 0 16 16", "aria-hidden": "true" }, drawn("path", { class: kind, d })), words)));
  const box = element("div", { class: "picture", id: "scatter" });
  let device = result.devices[0];
  const draw = (width) => scatter(result, front, device, width, titleOf);
  drawnToFit(box, draw);
  const choice = result.devices.length > 1 && element("label", { class: "small" }, "Latency on ");
  if (choice) {
    const select = element("select", { id: "front-device" }, result.devices.map((name) => element("option", { value: name }, titleOf(name))));
    select.addEventListener("change", () => { device = select.value; box.replaceChildren(draw(Math.max(box.clientWidth, 260))); });
    choice.append(select);
  }
  return element("section", { class: "card" }, element("h2", {}, "Accuracy and latency"),
    element("p", { class: "soft small" }, "No trial within all limits is more accurate and faster than one of the front."),
    choice, legend, box);
}

function scatter(result, front, device, width, titleOf) {
  const height = Math.round(Math.min(Math.max(width * 0.5, 260), 430));
  const left = 66, right = 14, top = 20, floor = height - 44, round = (value) => Math.round(value * 10) / 10;
  const trials = result.trials.filter((trial) => typeof trial.accuracy === "number" && latency(trial, device) !== undefined);
  const limit = result.limits.find((one) => one.device === device)?.limit;
  const x = around([...trials.map((trial) => latency(trial, device)), ...(limit ? [limit] : [])], left, width - right);
  const y = around(trials.map((trial) => trial.accuracy), floor, top);
  const svg = drawn("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-labelledby": "scatter-title scatter-desc" },
    drawn("title", { id: "scatter-title" }, `Accuracy over latency on ${titleOf(device)}`),
    drawn("desc", { id: "scatter-desc" }, `${trials.length} trials, ${front.length} on the front. The table below holds the front.`));
  for (const tick of y.ticks(5)) {
    svg.append(drawn("line", { class: "grid", x1: left, x2: width - right, y1: round(y.to(tick)), y2: round(y.to(tick)) }),
      drawn("text", { x: left - 8, y: round(y.to(tick)) + 4, "text-anchor": "end" }, compact.format(tick)));
  }
  for (const tick of x.ticks(Math.max(2, width / 110))) {
    svg.append(drawn("line", { class: "grid", x1: round(x.to(tick)), x2: round(x.to(tick)), y1: top, y2: floor }),
      drawn("text", { x: round(x.to(tick)), y: floor + 17, "text-anchor": "middle" }, milliseconds(tick)));
  }
  svg.append(drawn("line", { class: "axis", x1: left, x2: width - right, y1: floor, y2: floor }),
    drawn("text", { x: (left + width - right) / 2, y: height - 8, "text-anchor": "middle" }, `latency on ${titleOf(device)}`),
    drawn("text", { x: 14, y: (top + floor) / 2, "text-anchor": "middle", transform: `rotate(-90 14 ${(top + floor) / 2})` }, "accuracy"));
  if (limit) limitLine(svg, round(x.to(limit)), milliseconds(limit), { top, floor, end: width - right });
  const at = (trial) => [round(x.to(latency(trial, device))), round(y.to(trial.accuracy))];
  steps(svg, front.filter((trial) => trials.includes(trial)).map(at), Math.min(width - right, limit ? x.to(limit) : Infinity));
  for (const trial of [...trials].sort((a, b) => a.on_front - b.on_front)) {
    const [kind, shape, size] = trial.on_front ? ["best", square, 5] : trial.feasible ? ["ok", circle, 3.6] : ["no", triangle, 4.4];
    svg.append(drawn("path", { class: kind, d: shape(...at(trial), size), "data-trial": trial.number },
      drawn("title", {}, `trial ${trial.number}: ${accuracyText(trial.accuracy, result.unit)}, ${milliseconds(latency(trial, device))}`)));
  }
  return svg;
}

function limitLine(svg, x, text, { top, floor, end }) {
  const late = x > end * 0.6;
  svg.append(drawn("rect", { class: "over-limit", x, y: top, width: Math.max(0, end - x), height: floor - top }),
    drawn("line", { class: "limit", x1: x, x2: x, y1: top - 6, y2: floor }),
    drawn("text", { class: "limit-text", x: late ? x - 6 : x + 6, y: top + 4, "text-anchor": late ? "end" : "start" }, `limit ${text}`));
}

/** What the front offers at each latency. */
function steps(svg, points, end) {
  const order = points.sort((a, b) => a[0] - b[0] || a[1] - b[1]), seen = [];
  for (const point of order) if (!seen.length || point[1] < seen.at(-1)[1]) seen.push(point);
  if (!seen.length) return;
  const d = seen.map(([x, y], i) => i ? `H${x}V${y}` : `M${x} ${y}`).join("");
  svg.append(drawn("path", { class: "step", d: `${d}H${Math.max(end, seen.at(-1)[0])}` }));
}

// -- the table ------------------------------------------------------------------------------------

function tableCard(result, front, { take, titleOf }) {
  const of = (name) => (trial) => trial.figures[name];
  const number = (title, key, show, up) => ({ title, numeric: true, up, key: (t) => key(t) ?? Infinity, cell: (t) => show(key(t)) });
  const columns = [
    { title: "Trial", numeric: true, up: true, head: true, key: (t) => t.number, cell: (t) => String(t.number) },
    number("Accuracy", (t) => t.accuracy, (value) => accuracyText(value, result.unit)),
    ...result.devices.flatMap((device) => [
      number(result.devices.length > 1 ? titleOf(device) : "Latency", (t) => latency(t, device), (value) => milliseconds(value), true),
      { title: "90 % interval", numeric: true, cell: (t) => span(ends(t, device), latency(t, device), "–") },
    ]),
    number("MACs", of("macs"), count, true), number("Parameters", of("params"), count, true), number("Memory", of("memory_mb"), megabytes, true),
    take && { title: "Layers", cell: (t) => button("Predict", () => take(t.key), { class: "pick", "aria-label": `Predict trial ${t.number}, ${capped(printable(t.key), 30)}` }) },
    { title: "Network", name: "key", key: (t) => t.key, cell: (t) => printable(t.key) },
  ].filter(Boolean);
  const lit = (trial, on) => document.querySelector(`#scatter [data-trial="${trial.number}"]`)?.classList.toggle("lit", on);
  const row = (trial, body) => {
    for (const kind of ["pointerenter", "focusin"]) body.addEventListener(kind, () => lit(trial, true));
    for (const kind of ["pointerleave", "focusout"]) body.addEventListener(kind, () => lit(trial, false));
  };
  return element("section", { class: "card" }, element("h2", {}, "The front"),
    dataTable({ label: "Front", columns, items: front, sorted: "Accuracy", limit: 100, more: "trials", row }));
}

function notes({ notes: texts }) {
  return texts?.length ? element("section", { class: "card" }, element("h2", {}, "Notes"),
    element("ul", { class: "plain" }, texts.map((text) => element("li", {}, printable(text))))) : null;
}

export function spokenFront(result, partial) {
  const front = frontOf(result);
  say(`${partial ? "Search cancelled" : "Search done"}: ${result.trials.length} trials, ${front.length} on the front` +
    (front[0] ? `, the best ${accuracyText(front[0].accuracy, result.unit)}` : ""));
}
