// The second tab: starts a search, follows it, cancels it, shows its front.
import { $, complain, element, goTo, say } from "./dom.js";
import { ApiError, events, get, post, request } from "./api.js";
import { devicePicker } from "./devices.js";
import { frontCards, spokenFront } from "./front.js";
import { encode } from "./link.js";
import { printable } from "./units.js";

const HELP = {
  flops: "More FLOPs count as more accurate: quick, and only a stand-in.",
  params: "More parameters count as more accurate: quick, and only a stand-in.",
};
const OVER = ["done", "failed", "cancelled"];
const POLL = 1000;
const NUMBERS = { trials: 1, seed: 0 };
const CHOICES = ["space", "signal", "sampler", "aim"];

let picker = null, current = null, prefixes = new Set(["ofa", "fbnet", "nasbench201"]), takeModel = () => {};

/** `take(model, devices)` predicts a network of the front in the first tab. */
export function start({ take, onStarted }) {
  takeModel = take;
  picker = devicePicker($("hunt-devices"), { prefix: "hunt", onChange: () => complain($("hunt-error"), "", picker.field) });
  $("hunt").addEventListener("submit", (event) => {
    event.preventDefault();
    const state = read();
    if (!state) return;
    onStarted(link(state));
    run(state);
  });
  $("cancel").addEventListener("click", cancel);
  $("signal").addEventListener("change", help);
}

export const loadDevices = (devices) => picker.load(devices);

/** Spaces whose networks have names can show one of them in the other tab. */
export function loadNames({ sources }) {
  prefixes = new Set(sources.map(({ prefix }) => prefix));
}

export function loadSpaces({ spaces, signals, samplers }) {
  const options = (id, values, chosen) => {
    $(id).replaceChildren(...values.map(([value, title]) => element("option", { value }, printable(title ?? value))));
    if (values.some(([value]) => value === chosen)) $(id).value = chosen;
  };
  options("space", spaces.map(({ name, parameters }) => [name, parameters ? `${name}, ${parameters} choices` : name]), "ofa");
  options("signal", signals.map((name) => [name]), "flops");
  options("sampler", (samplers ?? ["learned"]).map((name) => [name]), "learned");
  help();
}

function help() {
  $("signal-help").textContent = HELP[$("signal").value] ?? "Trains nothing; slower than counting.";
}

// -- the form -------------------------------------------------------------------------------------

function wrong(field, message) {
  complain($("hunt-error"), message, field);
  field.focus();
  return null;
}

function read() {
  for (const id of ["trials", "seed", "limit"]) complain($("hunt-error"), "", $(id));
  complain($("hunt-error"), "", picker.field);
  const state = { device: picker.chosen() };
  if (!state.device.length) return wrong(picker.field, "Choose a device first: type a name, then Enter.");
  for (const [id, least] of Object.entries(NUMBERS)) {
    const value = Number($(id).value);
    if (!$(id).value || !Number.isInteger(value) || value < least) return wrong($(id), `${id === "trials" ? "Trials" : "Seed"}: wants a whole number from ${least}.`);
    state[id] = value;
  }
  const limit = $("limit").value.trim();
  if ($("limit").validity.badInput || (limit && !(Number(limit) > 0))) return wrong($("limit"), "Latency budget: wants a number above 0.");
  if (limit) state.budget = Number(limit);
  for (const id of CHOICES) state[id] = $(id).value;
  return state;
}

const link = (state) => encode({ view: "search", ...state });

export function linkNow() {
  const state = read();
  return state && { link: link(state), left: "" };
}

export function fill(state) {
  complain($("hunt-error"), "", picker.field);
  const problems = picker.choose(state.device ?? []).map((name) => `device: this server knows no '${name}'`);
  for (const id of CHOICES) {
    if (state[id] === undefined) continue;
    if ([...$(id).options].some((option) => option.value === state[id])) $(id).value = state[id];
    else problems.push(`${id}: this server knows no '${state[id]}'`);
  }
  for (const id of Object.keys(NUMBERS)) if (state[id] !== undefined) $(id).value = state[id];
  $("limit").value = state.budget ?? "";
  help();
  return problems;
}

// -- a search -------------------------------------------------------------------------------------

function asked({ device, budget, space, signal, sampler, aim, trials, seed }) {
  return { space, devices: device, accuracy: signal, sampler, aim, trials, seed, ...(budget ? { budget: { latency_ms: budget } } : {}) };
}

async function run(state) {
  if (current) return;
  current = { id: null };
  busy(true);
  try {
    let status = await post("v1/searches", asked(state));
    current.id = status.id;
    progress(status);
    status = await follow(status);
    await finish(status);
  } catch (error) {
    if (!(error instanceof ApiError)) throw error;
    complain($("hunt-error"), error.text);
    empty("No result", "The message beside the form says what is wrong.");
  } finally {
    current = null;
    busy(false);
  }
}

/** The last status: from the stream of events, and where that breaks off by asking again. */
async function follow(status) {
  try {
    for await (const { event, data } of events(`v1/searches/${encodeURIComponent(status.id)}/events`)) {
      if (event !== "progress" && event !== "end") continue;
      status = { ...status, ...JSON.parse(data || "{}") };
      progress(status);
      if (event === "end") break;
    }
  } catch (error) {
    if (error instanceof ApiError && error.status) throw error;
  }
  while (!OVER.includes(status.state)) {
    status = await get(`v1/searches/${encodeURIComponent(status.id)}`);
    progress(status);
    if (!OVER.includes(status.state)) await new Promise((resume) => setTimeout(resume, POLL));
  }
  return status;
}

function empty(title, text) {
  $("found").replaceChildren(element("div", { class: "card empty" }, element("h2", {}, title), element("p", { class: "soft" }, text)));
}

async function finish(status) {
  if (status.state === "failed") {
    complain($("hunt-error"), `The search failed: ${printable(status.message || "no reason was given")}`);
    empty("The search failed", "The message beside the form says why.");
    return;
  }
  const partial = status.state === "cancelled";
  let result;
  try {
    result = await get(`v1/searches/${encodeURIComponent(status.id)}/front`);
  } catch (error) {
    // Cancelled before anything was found.
    if (!(partial && error instanceof ApiError && [404, 409].includes(error.status))) throw error;
    say("Search cancelled");
    empty("Cancelled", "Nothing had been found yet.");
    return;
  }
  const named = prefixes.has(result.space);
  const cards = frontCards(result, { partial, titleOf: (name) => printable(picker.byName(name)?.title ?? name),
    take: named ? (key) => takeModel(`${result.space}:${key}`, result.devices) : null });
  $("found").replaceChildren(...cards);
  spokenFront(result, partial);
  goTo($("found"), $("hunt"));
}

async function cancel() {
  if (!current?.id || current.cancelled) return;
  current.cancelled = true;
  $("cancel").textContent = "Cancelling …";
  try {
    await request(`v1/searches/${encodeURIComponent(current.id)}/cancel`, { method: "POST" });
  } catch (error) {
    // One that ended meanwhile has nothing to cancel.
    if (!(error instanceof ApiError && [404, 409].includes(error.status))) complain($("hunt-error"), error.text ?? String(error));
  }
}

let told = -1;

function progress({ state, done, trials, message }) {
  const words = { queued: "Waiting for its turn", running: `${done} of ${trials} trials`, done: `${trials} trials done`,
    failed: "Failed", cancelled: `Cancelled after ${done} of ${trials} trials` }[state] ?? printable(state);
  $("progress-text").textContent = message && state === "running" ? `${words}: ${printable(message)}` : words;
  $("bar").max = trials || 1;
  $("bar").value = done || 0;
  // A screen reader hears of every quarter, not of every trial.
  const quarter = Math.floor(4 * done / (trials || 1));
  if (state === "running" && quarter > told && quarter < 4) say(words);
  told = Math.max(told, quarter);
}

function busy(on) {
  told = -1;
  // The focus must not fall off a button that goes away.
  const lost = [$("start"), $("cancel")].includes(document.activeElement);
  $("start").hidden = on;
  $("cancel").hidden = !on;
  $("cancel").textContent = "Cancel";
  $("progress").hidden = !on;
  if (lost) $(on ? "cancel" : "start").focus({ preventScroll: true });
  if (on) {
    complain($("hunt-error"), "");
    $("found").replaceChildren();
  }
  $("found").setAttribute("aria-busy", String(on));
}
