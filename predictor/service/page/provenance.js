// How good the target's numbers are, and where its facts come from.
import { element } from "./dom.js";
import { SCOPES, TIERS } from "./bars.js";
import { dataTable } from "./table.js";
import { digits, flopRate, bytes, pct, printable } from "./units.js";

const LEFT_OUT = { model: "models", family: "families", board: "boards", source: "sources", row: "single measurements" };

/** Errors by what was left out of the fit; a card holds them at its top or under `protocols`. */
export function accuracyCard(estimate) {
  const card = estimate.accuracy ?? {};
  const folds = Object.entries(card.protocols ?? card)
    .filter(([, fold]) => fold && typeof fold === "object" && typeof fold.median_pct === "number")
    .map(([name, fold]) => ({ name: LEFT_OUT[name] ?? printable(name), ...fold }));
  const title = element("h2", {}, "How good it is");
  if (!folds.length) {
    return element("section", { class: "card" }, title, element("p", { class: "soft" },
      `Nothing was measured on ${printable(estimate.device_title || estimate.device)} with this runtime and precision: its error is not known.`));
  }
  const of = (fold, name) => fold.baselines?.[name]?.median_pct;
  const column = (name, key, show) => ({ title: name, numeric: true, key: (f) => key(f) ?? Infinity, cell: (f) => show(key(f)) });
  const columns = [
    { title: "Left out", head: true, key: (f) => f.name, cell: (f) => f.name },
    column("Median error", (f) => f.median_pct, pct), column("Mean error", (f) => f.mean_pct, pct),
    column("Within 10 %", (f) => f.within_10_pct, pct), column("Figures", (f) => f.n, (n) => n?.toLocaleString("en") ?? "–"),
    column("FLOPs alone", (f) => of(f, "flops"), pct), column("Roofline alone", (f) => of(f, "roofline"), pct),
  ].filter(({ title: name, key }) => !/alone|Within/.test(name) || folds.some((fold) => Number.isFinite(key(fold))));
  return element("section", { class: "card" }, title,
    element("p", { class: "soft small" }, "Errors on what was left out of the fit of this target. The last columns are what FLOPs times a " +
      "constant, or the roofline, would be off by (median)."),
    dataTable({ label: "Accuracy", columns, items: folds }));
}

const fact = (name, value) => value ? [element("dt", {}, name), element("dd", {}, value)] : [];

/** Under which conditions the number stands, and where the device's facts were read. */
export function factsCard(estimate, device) {
  const { peak_flops: peak, bandwidth } = estimate.roof;
  const sources = Object.entries(device?.sources ?? {});
  return element("section", { class: "card" }, element("h2", {}, "Provenance"),
    element("dl", { class: "facts" },
      fact("Device", `${printable(estimate.device_title)} (${printable(estimate.device)})`),
      fact("Tier", `${printable(estimate.tier)}: ${TIERS[estimate.tier] ?? "unknown"}`),
      fact("Runtime", printable(estimate.runtime.replaceAll("_", " "))),
      fact("Software", printable(estimate.software)), fact("Precision", printable(estimate.precision)),
      fact("Power mode", printable(estimate.power_mode)),
      fact("Covers", SCOPES[estimate.scope] ?? printable(estimate.scope)),
      fact("Roof", peak && bandwidth ? `${flopRate(peak)} and ${bytes(bandwidth)}/s in this precision and power mode` : ""),
      fact("Device is", device ? `${printable(device.kind)}, ${printable(device.generation)}, ${device.units} ${printable(device.unit_name)}s at ` +
        `${digits(device.clock_mhz)} MHz, ${digits(device.memory_gb)} GB` : "")),
    sources.length ? element("details", {}, element("summary", {}, "Sources of the device's facts"),
      element("dl", { class: "facts" }, sources.flatMap(([name, text]) => fact(printable(name.replaceAll("_", " ")), printable(text))))) : null,
    device?.notes?.length ? element("ul", { class: "plain small soft" }, device.notes.map((note) => element("li", {}, printable(note)))) : null);
}
