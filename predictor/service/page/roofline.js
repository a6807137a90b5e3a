// Achieved FLOP/s over FLOPs per byte, both logarithmic, under the device's roof.
import { breakable, drawn, drawnToFit, element } from "./dom.js";
import { SOURCES, sourceClass, sourceWord } from "./bars.js";
import { decades } from "./scales.js";
import { dataTable } from "./table.js";
import { bytes, count, digits, flopRate, milliseconds, printable } from "./units.js";

// A shape for each source: colour alone need not be seen.
const SHAPES = {
  measured: (x, y, r) => `M${x - r} ${y}a${r} ${r} 0 1 0 ${2 * r} 0a${r} ${r} 0 1 0 ${-2 * r} 0`,
  learned: (x, y, r) => `M${x} ${y - 1.2 * r}l${1.2 * r} ${1.2 * r}l${-1.2 * r} ${1.2 * r}l${-1.2 * r} ${-1.2 * r}z`,
  fitted: (x, y, r) => `M${x - 0.88 * r} ${y - 0.88 * r}h${1.76 * r}v${1.76 * r}h${-1.76 * r}z`,
  roofline: (x, y, r) => `M${x} ${y - 1.15 * r}l${1.1 * r} ${2 * r}h${-2.2 * r}z`,
};
const shapeOf = (source) => SHAPES[source] ?? SHAPES.measured;

/** Kernels that compute nothing or move nothing have no place on these axes. */
function pointsOf(kernels) {
  return kernels.map((kernel) => ({ kernel, work: kernel.flops + kernel.elementwise_flops }))
    .filter(({ kernel, work }) => work > 0 && kernel.bytes > 0 && kernel.latency_ms > 0)
    .map(({ kernel, work }) => ({ kernel, x: work / kernel.bytes, y: work / (kernel.latency_ms / 1e3) }));
}

export function rooflineCard(estimate) {
  const points = pointsOf(estimate.kernels);
  if (!points.length) return null;
  const { peak_flops: peak, bandwidth } = estimate.roof;
  const roof = peak > 0 && bandwidth > 0 ? { peak, bandwidth, ridge: peak / bandwidth } : null;
  const picture = drawnToFit(element("div", { class: "picture", id: "roofline" }), (width) => plot(points, roof, width));
  return element("section", { class: "card" }, element("h2", {}, "Roofline"),
    element("p", { class: "soft small" }, "How fast each kernel computes for the work it does on a byte; larger marks take more of the " +
      "latency. On the slope memory limits a kernel, under the flat part arithmetic. Kernels without arithmetic are left out."),
    key(points), picture,
    element("details", {}, element("summary", {}, "The same as a table"), table(points)));
}

function key(points) {
  const used = Object.keys(SOURCES).filter((source) => points.some(({ kernel }) => kernel.source === source));
  return element("div", { class: "legend" }, used.map((source) => element("span", {},
    drawn("svg", { class: "key-mark", viewBox: "0 0 16 16", "aria-hidden": "true" },
      drawn("path", { class: `dot ${source}`, d: shapeOf(source)(8, 8, 5.5) })), source)));
}

function plot(points, roof, width) {
  const height = Math.round(Math.min(Math.max(width * 0.46, 260), 460));
  const left = 94, right = 14, top = 24, floor = height - 44;
  const x = decades([...points.map((p) => p.x), ...(roof ? [roof.ridge] : [])], left, width - right);
  const y = decades([...points.map((p) => p.y), ...(roof ? [roof.peak] : [])], floor, top);
  const svg = drawn("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-labelledby": "roofline-title roofline-desc" },
    drawn("title", { id: "roofline-title" }, "Roofline plot"), drawn("desc", { id: "roofline-desc" }, describe(points, roof)));
  axes(svg, x, y, { width, height, left, right, top, floor });
  if (roof) drawRoof(svg, x, y, roof, width < 480);
  const total = points.reduce((sum, { kernel }) => sum + kernel.latency_ms, 0);
  const most = width < 480 ? 14 : 22;
  for (const point of [...points].sort((a, b) => b.kernel.latency_ms - a.kernel.latency_ms)) {
    const size = 4 + most * Math.sqrt(point.kernel.latency_ms / total);
    const d = shapeOf(point.kernel.source)(round(x.to(point.x)), round(y.to(point.y)), round(size));
    svg.append(drawn("path", { class: `dot ${sourceClass(point.kernel.source)}`, d }, drawn("title", {}, tip(point))));
  }
  return svg;
}

const round = (value) => Math.round(value * 10) / 10;

function axes(svg, x, y, { width, height, left, right, top, floor }) {
  for (const tick of x.ticks(44)) {
    const at = round(x.to(tick));
    svg.append(drawn("line", { class: "grid", x1: at, x2: at, y1: top, y2: floor }),
      drawn("text", { x: at, y: floor + 17, "text-anchor": "middle" }, String(Number(tick.toPrecision(2)))));
  }
  for (const tick of y.ticks(26)) {
    const at = round(y.to(tick));
    svg.append(drawn("line", { class: "grid", x1: left, x2: width - right, y1: at, y2: at }),
      drawn("text", { x: left - 8, y: at + 4, "text-anchor": "end" }, flopRate(tick).replace(/\.0+ /, " ")));
  }
  svg.append(drawn("text", { x: (left + width - right) / 2, y: height - 8, "text-anchor": "middle" }, "FLOPs per byte moved"));
}

function drawRoof(svg, x, y, { peak, bandwidth, ridge }, narrow) {
  const start = Math.max(x.low, y.low / bandwidth), end = x.high;
  const corner = [x.to(ridge), y.to(peak)], foot = [x.to(start), y.to(start * bandwidth)];
  svg.append(drawn("polyline", { class: "roof", points: [foot, corner, [x.to(end), y.to(peak)]].map((p) => p.map(round).join(",")).join(" ") }),
    drawn("text", { class: "strong", x: x.to(end) - 4, y: y.to(peak) - 8, "text-anchor": "end" }, `peak ${flopRate(peak)}`));
  if (narrow) return;
  const middle = [(foot[0] + corner[0]) / 2, (foot[1] + corner[1]) / 2].map(round);
  const angle = round(Math.atan2(corner[1] - foot[1], corner[0] - foot[0]) * 180 / Math.PI);
  svg.append(drawn("text", { class: "strong", x: middle[0], y: middle[1] - 9, "text-anchor": "middle",
    transform: `rotate(${angle} ${middle.join(" ")})` }, `${bytes(bandwidth)}/s`));
}

const tip = ({ kernel, x, y }) => `${printable(kernel.name)} (${printable(kernel.kind)})\n${milliseconds(kernel.latency_ms)}, ` +
  `${digits(x)} FLOPs a byte, ${flopRate(y)}\n${kernel.source}, ${kernel.bound} bound`;

function describe(points, roof) {
  const bound = roof ? points.filter((point) => point.x < roof.ridge).length : 0;
  const said = roof ? `The roof rises with ${bytes(roof.bandwidth)}/s to ${digits(roof.ridge)} FLOPs a byte and is flat at ` +
    `${flopRate(roof.peak)} from there. ${bound} of ${points.length} kernels lie under the slope. ` : `${points.length} kernels. `;
  return `${said}The table below holds every point.`;
}

function table(points) {
  return dataTable({ label: "Roofline", tall: true, items: points, sorted: "Latency", limit: 100, more: "kernels", columns: [
    { title: "Kernel", head: true, name: "name", key: (p) => p.kernel.name, cell: (p) => breakable(printable(p.kernel.name)) },
    { title: "Latency", numeric: true, key: (p) => p.kernel.latency_ms, cell: (p) => milliseconds(p.kernel.latency_ms) },
    { title: "FLOPs", numeric: true, key: (p) => p.kernel.flops + p.kernel.elementwise_flops,
      cell: (p) => count(p.kernel.flops + p.kernel.elementwise_flops) },
    { title: "Moved", numeric: true, key: (p) => p.kernel.bytes, cell: (p) => bytes(p.kernel.bytes) },
    { title: "FLOPs a byte", numeric: true, key: (p) => p.x, cell: (p) => digits(p.x) },
    { title: "Reached", numeric: true, key: (p) => p.y, cell: (p) => flopRate(p.y) },
    { title: "Source", key: (p) => p.kernel.source, cell: (p) => sourceWord(p.kernel.source) },
  ] });
}
