// One estimate: the total with its interval, the verdict, the layers, the roof, where it comes from.
import { button, download, element } from "./dom.js";
import { SCOPES, SOURCES, TIERS, mark, sourceClass } from "./bars.js";
import { kernelCard } from "./kernels.js";
import { rooflineCard } from "./roofline.js";
import { accuracyCard, factsCard } from "./provenance.js";
import { count, digits, megabytes, milliseconds, percent, printable, quantity, span } from "./units.js";

export const titleOf = (estimate) => `${printable(estimate.model)} on ${printable(estimate.device_title || estimate.device)}`;

export const rate = ({ language, throughput_fps: fps }) => language?.tokens_per_second
  ? `${digits(language.tokens_per_second)} tokens/s` : `${digits(fps)} frames/s`;

/** Runtime and software, precision, batch, power mode and scope, as the answer stands for. */
export function conditions(estimate) {
  const named = estimate.runtime.replaceAll("_", " ");
  let software = estimate.software;
  if (software && !software.toLowerCase().includes(named.toLowerCase())) software = `${named} (${software})`;
  return [software || named, estimate.precision, `batch ${estimate.batch}`,
    estimate.power_mode && `power mode ${estimate.power_mode}`, SCOPES[estimate.scope] ?? estimate.scope]
    .filter(Boolean).map(printable);
}

const quantityName = (name) => printable(name.replace(/_(ms|mb)$/, "").replaceAll("_", " "));

/** {kind, words} of a budget line; the words say it all, the colour only repeats them. */
export function verdict(check, interval) {
  const value = quantity(check.value, check.unit), limit = quantity(check.limit, check.unit);
  const name = quantityName(check.quantity);
  if (!check.met) {
    const more = check.limit > 0 ? `, ${percent(check.value / check.limit - 1)} too much` : "";
    const hope = check.quantity === "latency_ms" && interval[0] <= check.limit ? "; its interval begins below the limit" : "";
    return { kind: "over", words: `Over budget: ${name} ${value}, limit ${limit}${more}${hope}` };
  }
  if (check.quantity === "latency_ms" && interval[1] > check.limit) {
    return { kind: "near", words: `Within budget, not surely: ${name} ${value}, limit ${limit}; its interval ends at ${milliseconds(interval[1])}` };
  }
  const whole = check.quantity === "latency_ms" ? "; so is the whole interval" : "";
  return { kind: "met", words: `Within budget: ${name} ${value}, limit ${limit}${whole}` };
}

const block = (name, value, kind) => element("div", {},
  element("div", { class: "soft small" }, name), element("div", { class: kind }, value));

/** The interval on a line, with the limit; the same is said in words above it. */
function strip(estimate) {
  const [low, high] = estimate.interval_ms;
  const limit = estimate.checks.find((check) => check.quantity === "latency_ms")?.limit;
  const most = Math.max(high, Math.min(limit ?? 0, 4 * high)) * 1.08;
  const at = (value) => `${100 * value / most}%`;
  const made = element("div", { class: "strip", "aria-hidden": "true" }, element("div", { class: "track" }));
  const put = (kind, value, text) => {
    const part = element("span", { class: kind }, text ?? "");
    part.style.left = at(value);
    made.append(part);
    return part;
  };
  put("span", low).style.width = at(high - low);
  if (limit && limit <= most) {
    put("limit", limit);
    put(`tag limit-tag ${limit > 0.8 * most ? "end" : ""}`, limit, `limit ${milliseconds(limit)}`);
  }
  put("point", estimate.latency_ms);
  const apart = !limit || Math.abs(limit - estimate.latency_ms) > 0.2 * most;
  if (apart) put(`tag ${estimate.latency_ms < 0.08 * most ? "begin" : ""}`, estimate.latency_ms, milliseconds(estimate.latency_ms));
  return made;
}

function shares(sources) {
  const used = Object.entries(sources).filter(([, share]) => share > 0);
  if (!used.length) return null;
  const bars = used.map(([name, share]) => {
    const part = element("span", { class: sourceClass(name) });
    part.style.flex = String(share);
    return part;
  });
  return element("div", {}, element("h3", {}, "Where the latency comes from"),
    element("div", { class: "shares", "aria-hidden": "true" }, bars),
    element("div", { class: "legend" }, used.map(([name, share]) =>
      element("span", {}, mark(name), `${SOURCES[name] ?? printable(name)} ${percent(share)}`))));
}

function overheads(parts) {
  const used = Object.entries(parts).filter(([, value]) => value);
  if (!used.length) return null;
  const words = used.map(([name, value]) => `${printable(name.replaceAll("_", " "))} ${milliseconds(value)}`);
  return element("p", { class: "soft small below" }, `Overheads that no layer carries: ${words.join(", ")}`);
}

function language(figures) {
  if (!figures?.phase) return null;
  const said = [`${printable(figures.phase)}: ${figures.new_tokens.toLocaleString("en")} new ${figures.new_tokens === 1 ? "token" : "tokens"}, ` +
    `${figures.cached_tokens.toLocaleString("en")} in the cache before`];
  if (figures.time_to_first_token_ms) said.push(`${milliseconds(figures.time_to_first_token_ms)} to the first token`);
  if (figures.time_per_output_token_ms) said.push(`${milliseconds(figures.time_per_output_token_ms)} an output token`);
  said.push(`KV cache ${megabytes(figures.kv_cache_mb)} after the pass`);
  return element("p", { class: "soft small below" }, said.join("; "));
}

function head(estimate) {
  const title = titleOf(estimate);
  const tier = `tier: ${printable(estimate.tier)} (${TIERS[estimate.tier] ?? "unknown"})`;
  const verdicts = estimate.checks.map((check) => {
    const { kind, words } = verdict(check, estimate.interval_ms);
    return element("p", { class: `verdict ${kind}` }, words);
  });
  return element("section", { class: "card", "aria-labelledby": "result-title" },
    element("div", { class: "title-row" }, element("h2", { id: "result-title", tabindex: "-1" }, title),
      button("Download JSON", () => download("estimate.json", estimate), { class: "small" })),
    element("ul", { class: "chip-line" }, [...conditions(estimate), tier].map((text) => element("li", {}, text))),
    element("div", { class: "hero" },
      block("latency", milliseconds(estimate.latency_ms), "value"),
      block("90 % interval", span(estimate.interval_ms, estimate.latency_ms), "second"),
      block("throughput", rate(estimate), "second")),
    strip(estimate), verdicts, shares(estimate.sources), overheads(estimate.overheads_ms), language(estimate.language));
}

function remarks(title, texts, kind = "") {
  if (!texts?.length) return null;
  return element("section", { class: `card ${kind}` }, element("h2", {}, title),
    element("ul", { class: "plain" }, texts.map((text) => element("li", {}, printable(text)))));
}

function memory({ fits_memory: fits, device_memory_mb: room }) {
  if (fits === null || room === null) return ["the device's memory is unknown", "soft"];
  return fits ? [`of ${megabytes(room)}: fits`, "soft"] : [`of ${megabytes(room)}: DOES NOT FIT`, "over"];
}

function size(estimate) {
  const tiles = [
    ["MACs", count(estimate.macs), `${count(estimate.flops)} FLOPs`],
    ["element-wise", count(estimate.elementwise_flops), "FLOPs on top"],
    ["parameters", count(estimate.params), `${megabytes(estimate.model_mb)} in ${printable(estimate.precision)}`],
    ["memory access", megabytes(estimate.fused_memory_access_mb), `${megabytes(estimate.memory_access_mb)} unfused`],
    ["memory needed", megabytes(estimate.memory_needed_mb), ...memory(estimate)],
    ["peak activations", megabytes(estimate.peak_activation_mb), "alive at one time"],
    ["roof reached", percent(estimate.peak_share), "of the roofline"],
  ];
  return element("section", { class: "card" }, element("h2", { class: "unseen" }, "Size of the network"),
    element("div", { class: "tiles" }, tiles.map(([name, value, below, kind = "soft"]) => element("div", {},
      element("span", { class: "soft small" }, name), element("b", {}, value),
      element("span", { class: `${kind} small` }, below)))));
}

/** The cards of one estimate; `device` are its facts, where they are known. */
export function answerCards(estimate, device) {
  return [head(estimate), remarks("Warnings", estimate.warnings, "warnings"),
    remarks("Hints", estimate.hints), kernelCard(estimate.kernels), rooflineCard(estimate), size(estimate),
    accuracyCard(estimate), factsCard(estimate, device), remarks("What this number covers", estimate.notes)]
    .filter(Boolean);
}

/** What is announced. */
export function spoken(estimate) {
  const budget = estimate.checks.map((check) => verdict(check, estimate.interval_ms).words);
  return [`${titleOf(estimate)}: ${milliseconds(estimate.latency_ms)}`,
    `90 percent interval ${span(estimate.interval_ms, estimate.latency_ms)}`, ...budget,
    estimate.warnings.length && `${estimate.warnings.length} warnings`].filter(Boolean).join(". ");
}
