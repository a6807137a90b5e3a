// Several estimates side by side; one of them is opened below.
import { button, download, element, say, twoLines } from "./dom.js";
import { TIERS, bar } from "./bars.js";
import { answerCards, rate, titleOf, verdict } from "./answer.js";
import { pairsTable } from "./pairs.js";
import { dataTable } from "./table.js";
import { digits, milliseconds, printable, span } from "./units.js";

const targetOf = (estimate) => [estimate.software || estimate.runtime.replaceAll("_", " "), estimate.precision,
  estimate.power_mode].filter(Boolean).map(printable).join(" · ");

const targetCell = (estimate) => twoLines(targetOf(estimate), TIERS[estimate.tier] ?? printable(estimate.tier));

const latencyCheck = (estimate) => estimate.checks.find((check) => check.quantity === "latency_ms");

const VERDICTS = { met: "met", near: "met, not surely", over: "OVER" };

function verdictCell(estimate) {
  const checks = estimate.checks.map((check) => ({ check, ...verdict(check, estimate.interval_ms) }));
  const worst = ["over", "near", "met"].find((kind) => checks.some((one) => one.kind === kind));
  return worst ? element("span", { class: worst, title: checks.map((one) => one.words).join("\n") }, VERDICTS[worst]) : "–";
}

function scaleOf(estimates) {
  const slowest = Math.max(...estimates.map((estimate) => estimate.latency_ms));
  const limit = latencyCheck(estimates[0])?.limit ?? 0;
  const highest = Math.max(...estimates.map((estimate) => estimate.interval_ms[1]));
  return Math.max(Math.min(highest, 3 * slowest), limit <= 3 * slowest ? limit * 1.02 : 0) || 1;
}

function columnsOf(estimates, pick) {
  const fastest = Math.min(...estimates.map((estimate) => estimate.latency_ms));
  const most = scaleOf(estimates);
  const times = (e) => e.latency_ms > fastest ? `${digits(fastest ? e.latency_ms / fastest : 1)} × as long` : "the fastest";
  const limited = estimates.some((estimate) => estimate.checks.length);
  return [
    { title: "Device", head: true, name: "name", key: (e) => e.device_title, cell: pick },
    { title: "Latency", note: "90 % interval", numeric: true, up: true, key: (e) => e.latency_ms,
      cell: (e) => twoLines(milliseconds(e.latency_ms), span(e.interval_ms, e.latency_ms, "–")) },
    { title: "", wide: true, cell: (e) => bar(e.latency_ms, e.interval_ms, most,
      e.latency_ms === fastest ? "best-bar" : "plain-bar", latencyCheck(e)?.limit) },
    { title: "Rate", numeric: true, key: (e) => e.throughput_fps, cell: (e) => twoLines(rate(e), times(e)) },
    limited && { title: "Budget", key: (e) => verdictCell(e).textContent ?? "", cell: verdictCell },
    { title: "Target", name: "wraps", key: targetOf, cell: targetCell },
  ].filter(Boolean);
}

function summary(estimates) {
  const sorted = [...estimates].sort((a, b) => a.latency_ms - b.latency_ms);
  const [first, second] = sorted;
  const apart = first.interval_ms[1] < second.interval_ms[0];
  return `${printable(first.device_title)} is the fastest with ${milliseconds(first.latency_ms)}` +
    (apart ? ", beyond the intervals of all others." : `; its interval overlaps that of ${printable(second.device_title)}.`);
}

/** Cards for a comparison; the last is a place for the estimate that is opened. */
export function compareCards(data, deviceOf) {
  const { estimates } = data;
  const below = element("div", { id: "opened" });
  const buttons = new Map();
  const picked = (estimate) => {
    const made = button(printable(estimate.device_title || estimate.device), () => show(estimate, true),
      { class: "link", "aria-pressed": "false" });
    buttons.set(estimate, made);
    return made;
  };
  function show(estimate, told) {
    for (const [other, made] of buttons) {
      made.setAttribute("aria-pressed", String(other === estimate));
      made.closest("tr").classList.toggle("chosen", other === estimate);
    }
    below.replaceChildren(...answerCards(estimate, deviceOf(estimate.device)));
    if (told) say(`Below: ${titleOf(estimate)}`);
  }
  const table = dataTable({ label: "Comparison", columns: columnsOf(estimates, picked), items: estimates, sorted: "Latency" });
  const card = element("section", { class: "card", "aria-labelledby": "compare-title" },
    element("div", { class: "title-row" },
      element("h2", { id: "compare-title", tabindex: "-1" }, `${printable(estimates[0].model)} on ${estimates.length} devices`),
      button("Download JSON", () => download("comparison.json", data), { class: "small" })),
    element("p", { class: "soft" }, `${summary(estimates)} A device's name shows its layers below.`), table, pairsTable(data) ?? "");
  show(estimates.reduce((a, b) => b.latency_ms < a.latency_ms ? b : a), false);
  return [card, below];
}

export const spokenComparison = ({ estimates }) => `${printable(estimates[0].model)} on ${estimates.length} devices. ${summary(estimates)} ` +
  estimates.map((e) => `${printable(e.device_title)} ${span(e.interval_ms, e.latency_ms)}`).join(", ");
