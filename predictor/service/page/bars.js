// A bar with its whisker, and the words and marks of the sources of latencies.
import { element } from "./dom.js";

export const SOURCES = {
  measured: "measured (in the target's table)",
  learned: "learned (model of measured kernels)",
  fitted: "fitted (physical model)",
  roofline: "roofline (datasheet only)",
};
export const TIERS = {
  measured: "measured on the device",
  calibrated: "calibrated on published figures",
  datasheet: "datasheet facts only",
};
export const SCOPES = { engine: "the engine alone", call: "a call through Python" };

/** A source as a class name, or none: it comes from the server but ends in an attribute. */
export const sourceClass = (source) => Object.hasOwn(SOURCES, source) ? source : "other";

/** Where pictures end: at the highest whisker, but at 3 x the slowest bar at most. */
export function fullScale(values) {
  const slowest = Math.max(...values.map((value) => value.latency_ms));
  return Math.min(Math.max(...values.map((value) => value.interval_ms[1])), 3 * slowest) || 1;
}

const place = (value, most) => `${Math.min(Math.max(value / most, 0), 1) * 100}%`;

/** A horizontal bar of a latency; numbers stand beside it, so it says nothing to a screen reader. */
export function bar(value, [low, high], most, kind, limit) {
  const fill = element("span", { class: `fill ${kind}` });
  fill.style.width = place(value, most);
  const whisker = element("span", { class: high > most ? "whisker cut" : "whisker" });
  whisker.style.left = place(low, most);
  whisker.style.right = `calc(100% - ${place(high, most)})`;
  const made = element("div", { class: "bar", "aria-hidden": "true" }, fill, whisker);
  if (limit > 0 && limit <= most) {
    const line = element("span", { class: "limit" });
    line.style.left = place(limit, most);
    made.append(line);
  }
  return made;
}

export const mark = (source) => element("i", { class: `mark ${sourceClass(source)}`, "aria-hidden": "true" });

export const sourceWord = (source) => [mark(source), source];

/** The sources that occur, with their marks. */
export function legend(kernels) {
  const used = Object.keys(SOURCES).filter((name) => kernels.some((kernel) => kernel.source === name));
  return element("div", { class: "legend" }, used.map((name) => element("span", {}, mark(name), SOURCES[name])));
}
