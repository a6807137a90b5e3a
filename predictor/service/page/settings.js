// Runtime, batch, budget and the other fields; which of them there are depends on the devices.
import { $, complain, element } from "./dom.js";
import { resolution, shapes } from "./link.js";
import { errorOf, usualTarget } from "./devices.js";
import { pct, printable } from "./units.js";

const WHOLE = { batch: 1, sequence: 1, context: 0 };
const PLAIN = ["scope", "phase", "power_mode"];
const FIELDS = ["target", "batch", "resolution", "power_mode", "budget", "scope", "phase", "sequence",
  "context", "inputs"];
const MORE = ["scope", "phase", "sequence", "context", "inputs"];

const targetKey = (target) => `${target.runtime}/${target.precision}`;

function targetText(target) {
  const error = errorOf(target);
  return `${printable(target.runtime.replaceAll("_", " "))} · ${printable(target.precision)} · ${target.tier}` +
    (error === null ? "" : ` (error ${pct(error)})`);
}

/** Options for what the chosen devices run; kept as chosen where that is still possible. */
export function offer(devices) {
  offerTargets(devices);
  offerModes(devices.length === 1 ? devices[0].power_modes ?? [] : []);
}

function offerTargets(devices) {
  const before = $("target").value;
  const usual = devices.length === 1 ? usualTarget(devices[0]) : null;
  const found = new Map();
  for (const device of devices) {
    for (const target of device.targets) {
      if (!found.has(targetKey(target))) found.set(targetKey(target), target);
    }
  }
  const words = usual ? `default: ${targetText(usual)}` : devices.length ? "the default of each device" : "the device's default";
  $("target").replaceChildren(element("option", { value: "" }, words),
    ...[...found].map(([key, target]) => element("option", { value: key },
      devices.length === 1 ? targetText(target) : `${target.runtime.replaceAll("_", " ")} · ${target.precision}`)));
  keep($("target"), before);
}

function offerModes(modes) {
  const before = $("power_mode").value;
  $("power-part").hidden = !modes.length;
  const usual = modes.find((mode) => mode.default);
  $("power_mode").replaceChildren(element("option", { value: "" }, usual ? `default: ${usual.name}` : "the default"),
    ...modes.filter((mode) => mode !== usual).map((mode) => element("option", { value: mode.name }, printable(mode.name))));
  keep($("power_mode"), before);
}

/** Chooses what was chosen before; what a link asked for but no device has is offered all the same,
 * for the server's answer says what there is instead. */
function keep(select, value, always = false) {
  if (!value) return;
  const has = [...select.options].some((option) => option.value === value);
  if (!has && always) select.append(element("option", { value }, printable(value.replace("/", " · "))));
  if (has || always) select.value = value;
}

function number(field, check) {
  const text = $(field).value.trim();
  // A number field hands out no text for what is no number, and says so here.
  if ($(field).validity.badInput) throw Object.assign(new Error("wants a number."), { field });
  if (!text) return undefined;
  const value = Number(text);
  if (!check(value)) {
    const least = WHOLE[field];
    throw Object.assign(new Error(least === undefined ? "wants a number above 0." : `wants a whole number from ${least}.`), { field });
  }
  return value;
}

function text(field, check) {
  const value = $(field).value.trim();
  try {
    if (value) check(value);
  } catch (error) {
    throw Object.assign(new Error(error.message), { field });
  }
  return value || undefined;
}

/** The fields as parts of a link; throws an error with `field` and a message. */
export function read() {
  const state = {};
  for (const [field, least] of Object.entries(WHOLE)) {
    state[field] = number(field, (value) => Number.isInteger(value) && value >= least);
  }
  state.budget = number("budget", (value) => value > 0);
  state.resolution = text("resolution", resolution);
  state.inputs = text("inputs", shapes);
  for (const field of PLAIN) state[field] = $(field).value || undefined;
  if ($("power-part").hidden) delete state.power_mode;
  const [runtime, precision] = $("target").value.split("/");
  return { ...state, runtime: runtime || undefined, precision: precision || undefined };
}

/** The same as the server wants it, for one device or for a comparison. */
export function asked(state, several) {
  const settings = {};
  const copy = ["runtime", "precision", "power_mode", "scope", "phase", "sequence", "context"];
  for (const key of copy) if (state[key] !== undefined) settings[key] = state[key];
  if (state.inputs) {
    const sizes = shapes(state.inputs);
    settings.inputs = sizes.length === 1 ? sizes[0] : sizes;
  }
  if (state.budget) settings.budget = { latency_ms: state.budget };
  const sizes = state.resolution?.toLowerCase().split(/[x×]/).map(Number);
  const size = sizes && (sizes.length === 1 ? sizes[0] : sizes);
  if (state.batch) settings[several ? "batches" : "batch"] = several ? [state.batch] : state.batch;
  if (size) settings[several ? "resolutions" : "resolution"] = several ? [size] : size;
  return settings;
}

export function fill(state) {
  for (const field of FIELDS) if (field !== "target") $(field).value = state[field] ?? "";
  keep($("power_mode"), state.power_mode, true);
  if (state.power_mode) $("power-part").hidden = false;
  $("target").value = "";
  if (state.runtime || state.precision) keep($("target"), `${state.runtime ?? ""}/${state.precision ?? ""}`, true);
  $("more").open = MORE.some((field) => state[field] !== undefined && state[field] !== "");
}

export function refuse(error) {
  const field = $(error.field), label = document.querySelector(`label[for="${error.field}"]`).textContent;
  if (MORE.includes(error.field)) $("more").open = true;
  complain($("settings-error"), `${label}: ${error.message}`, field);
  field.focus();
}

export function accept() {
  for (const field of FIELDS) complain($("settings-error"), "", $(field));
}
