// Layers as a table with a bar in every row; what is fused opens.
import { breakable, button, drawn, drawnToFit, element, twoLines } from "./dom.js";
import { bar, fullScale, legend, sourceClass, sourceWord } from "./bars.js";
import { linear } from "./scales.js";
import { dataTable } from "./table.js";
import { bytes, count, digits, milliseconds, percent, printable, timeUnit, unitBeside, wholePercent } from "./units.js";

const SHOWN = 300;

export function kernelCard(kernels) {
  const title = element("h2", {}, "Layers");
  if (!kernels.length) {
    return element("section", { class: "card" }, title, element("p", { class: "soft" }, "The network has no layer that takes time."));
  }
  const fused = kernels.filter((kernel) => kernel.ops.length > 1).length;
  const words = `${kernels.length.toLocaleString("en")} kernels, as they are run. Bars are latencies, whiskers 90 % intervals, cut where ` +
    "they leave the picture." + (fused ? " What is fused into one kernel opens at its name." : "");
  return element("section", { class: "card" }, title, element("p", { class: "soft small" }, words),
    legend(kernels), overview(kernels), table(kernels));
}

// -- the profile in execution order ---------------------------------------------------------------

function overview(kernels) {
  const box = element("div", { class: "picture", id: "profile" });
  return kernels.length < 3 ? null : drawnToFit(box, (width) => profile(kernels, width));
}

function profile(kernels, width) {
  const height = 170, left = 62, right = 6, top = 8, floor = height - 22;
  const step = (width - left - right) / kernels.length, whiskers = step >= 5;
  const most = whiskers ? fullScale(kernels) : Math.max(...kernels.map((kernel) => kernel.latency_ms)) || 1;
  const y = linear(0, most, floor, top), thick = Math.min(Math.max(step * 0.8, 0.6), 44);
  const svg = drawn("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-labelledby": "profile-title profile-desc" },
    drawn("title", { id: "profile-title" }, "Latency of each kernel in execution order"),
    drawn("desc", { id: "profile-desc" }, describe(kernels)));
  for (const tick of y.ticks(4)) {
    svg.append(drawn("line", { class: "grid", x1: left, x2: width - right, y1: y.to(tick), y2: y.to(tick) }),
      drawn("text", { x: left - 8, y: y.to(tick) + 4, "text-anchor": "end" }, tick ? milliseconds(tick) : "0"));
  }
  kernels.forEach((kernel, i) => {
    const middle = left + step * (i + 0.5), tall = Math.max(floor - y.to(Math.min(kernel.latency_ms, most)), 0.5);
    svg.append(drawn("rect", { class: sourceClass(kernel.source), x: middle - thick / 2, y: floor - tall, width: thick,
      height: tall, rx: Math.min(2, thick / 3) }, drawn("title", {}, tip(kernel))));
    if (!whiskers) return;
    const [low, high] = kernel.interval_ms.map((value) => y.to(Math.min(value, most)));
    svg.append(drawn("line", { class: "stem", x1: middle, x2: middle, y1: low, y2: high }));
  });
  svg.append(drawn("line", { class: "axis", x1: left, x2: width - right, y1: floor, y2: floor }),
    drawn("text", { x: left, y: height - 6 }, "first kernel"),
    drawn("text", { x: width - right, y: height - 6, "text-anchor": "end" }, `kernel ${kernels.length}`));
  return svg;
}

function describe(kernels) {
  const slowest = kernels.reduce((a, b) => b.latency_ms > a.latency_ms ? b : a);
  return `${kernels.length} kernels; the slowest is ${printable(slowest.name)} with ${milliseconds(slowest.latency_ms)}. The table below holds every number.`;
}

const tip = (kernel) => `${printable(kernel.name)} (${printable(kernel.kind)})\n${milliseconds(kernel.latency_ms)}, ` +
  `90 % ${milliseconds(kernel.interval_ms[0])} to ${milliseconds(kernel.interval_ms[1])}\n` +
  `${kernel.source}, ${kernel.bound} bound, ${percent(kernel.peak_share)} of the roof`;

// -- the table ------------------------------------------------------------------------------------

function table(kernels) {
  const total = kernels.reduce((sum, kernel) => sum + kernel.latency_ms, 0);
  const most = fullScale(kernels);
  const usual = timeUnit(Math.max(...kernels.map((kernel) => kernel.latency_ms)));
  const index = new Map(kernels.map((kernel, i) => [kernel, i + 1]));
  const opened = new Map();
  const inUnit = (kernel, value) => milliseconds(value, unitBeside(kernel.latency_ms, usual));
  const bare = (kernel, value) => inUnit(kernel, value).split(" ")[0];
  const columns = [
    { title: "#", numeric: true, up: true, key: (k) => index.get(k), cell: (k) => String(index.get(k)) },
    { title: "Kernel", head: true, name: "name", key: (k) => k.name, cell: (k) => nameCell(k, opened) },
    { title: "Latency", note: "90 % interval", numeric: true, key: (k) => k.latency_ms,
      cell: (k) => twoLines(inUnit(k, k.latency_ms), `${bare(k, k.interval_ms[0])} – ${bare(k, k.interval_ms[1])}`) },
    { title: "", wide: true, cell: (k) => bar(k.latency_ms, k.interval_ms, most, sourceClass(k.source)) },
    { title: "Share", numeric: true, key: (k) => k.latency_ms, cell: (k) => percent(total ? k.latency_ms / total : 0) },
    { title: "Kind", key: (k) => k.kind, cell: (k) => printable(k.kind) },
    { title: "Bound", note: "of the roof", key: (k) => k.bound, cell: (k) => twoLines(printable(k.bound), wholePercent(k.peak_share)) },
    { title: "Source", key: (k) => k.source, cell: (k) => sourceWord(k.source) },
  ];
  return dataTable({ label: "Layers", tall: true, columns, items: kernels, sorted: "#", limit: SHOWN, more: "kernels",
    row: (kernel, body) => opened.get(kernel)?.(body, columns.length) });
}

/** The name; of a fused kernel a button that opens the operators inside. */
function nameCell(kernel, opened) {
  const name = printable(kernel.name);
  if (kernel.ops.length < 2) return element("span", { class: "alone" }, breakable(name));
  const opener = button("", () => toggle(), { class: "open", "aria-expanded": "false" });
  opener.append(...twoLines(breakable(name), `${kernel.ops.length} fused`));
  let body = null, columns = 0, inside = null;
  const toggle = () => {
    const open = opener.getAttribute("aria-expanded") !== "true";
    opener.setAttribute("aria-expanded", String(open));
    if (open) body.append(inside ??= insideRow(kernel, columns));
    else inside.remove();
  };
  opened.set(kernel, (ofBody, width) => { body = ofBody; columns = width; });
  return opener;
}

function insideRow(kernel, columns) {
  const work = kernel.flops + kernel.elementwise_flops;
  const intensity = kernel.bytes > 0 ? `, ${digits(work / kernel.bytes)} FLOPs a byte` : "";
  return element("tr", { class: "inside" }, element("td", { colspan: columns },
    element("ol", { "aria-label": `Operators in ${printable(kernel.name)}` }, kernel.ops.map((op) => element("li", {}, printable(op)))),
    element("span", { class: "soft" }, `Run as one kernel: ${count(work)} FLOPs, ${bytes(kernel.bytes)} moved${intensity}`)));
}
