// Two estimates kernel by kernel, as the server has put their kernels side by side.
import { breakable, element } from "./dom.js";
import { dataTable } from "./table.js";
import { milliseconds, percent, printable } from "./units.js";

const SHOWN = 15;

/** A table with the largest differences first, to be opened; none where there are not two estimates. */
export function pairsTable({ estimates, layers }) {
  if (!layers?.length || estimates.length !== 2) return null;
  const [first, second] = estimates.map((estimate) => printable(estimate.device_title || estimate.device));
  const place = new Map(layers.map((pair, i) => [pair, i + 1]));
  const total = Math.abs(estimates[1].latency_ms - estimates[0].latency_ms);
  const name = (text) => text === null ? "–" : breakable(printable(text));
  const signed = (value) => `${value > 0 ? "+" : ""}${milliseconds(value)}`;
  const columns = [
    { title: "#", numeric: true, up: true, key: (p) => place.get(p), cell: (p) => String(place.get(p)) },
    { title: "First", head: true, name: "name", key: (p) => p.first ?? "", cell: (p) => name(p.first) },
    { title: "First takes", numeric: true, key: (p) => p.first_ms ?? 0, cell: (p) => milliseconds(p.first_ms) },
    { title: "Second", name: "name", key: (p) => p.second ?? "", cell: (p) => name(p.second) },
    { title: "Second takes", numeric: true, key: (p) => p.second_ms ?? 0, cell: (p) => milliseconds(p.second_ms) },
    { title: "Difference", numeric: true, key: (p) => Math.abs(p.difference_ms), cell: (p) => signed(p.difference_ms) },
    { title: "Of the total", numeric: true, key: (p) => Math.abs(p.difference_ms),
      cell: (p) => total ? percent(p.difference_ms / total) : "–" },
  ];
  return element("details", { id: "pairs" }, element("summary", {}, "Where they differ, kernel by kernel"),
    element("p", { class: "soft small" }, `First is ${first}, second ${second}. A kernel that one of them does not run has no counterpart.`),
    dataTable({ label: "Differences", columns, items: layers, sorted: "Difference", limit: SHOWN, more: "pairs" }));
}
