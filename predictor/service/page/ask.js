// The form of the first tab: reads it, asks the server, shows the answer or says what is wrong where.
import { $, complain, element, goTo, say } from "./dom.js";
import { ApiError, post } from "./api.js";
import { answerCards, spoken } from "./answer.js";
import { compareCards, spokenComparison } from "./compare.js";
import { devicePicker } from "./devices.js";
import { encode, fits } from "./link.js";
import * as model from "./model.js";
import * as settings from "./settings.js";

let picker = null;
let running = null;  // the AbortController of the request under way

export function start({ onAsked }) {
  picker = devicePicker($("devices"), { prefix: "device", onChange: devicesChanged });
  model.start(() => {});
  settings.offer([]);
  $("ask").addEventListener("submit", async (event) => {
    event.preventDefault();
    const state = await read();
    if (state && await predict(state)) onAsked(encode(linkState(state)));
  });
  $("ask").addEventListener("input", (event) => { if (event.target.closest("#settings-part")) settings.accept(); });
}

export const loadDevices = (devices) => picker.load(devices);
export const loadModels = (models) => model.load(models);

function devicesChanged(names) {
  complain($("device-error"), "", picker.field);
  settings.offer(names.map(picker.byName).filter(Boolean));
}

/** What the form says, or null after a message at the field that is wrong. */
async function read() {
  accept();
  const state = { devices: picker.chosen() };
  try {
    Object.assign(state, model.read());
  } catch (error) {
    model.refuse(error.message);
    return null;
  }
  // A text may name its device itself.
  if (!state.devices.length && state.model) {
    complain($("device-error"), "Choose a device first: type a name, then Enter.", picker.field);
    picker.focus();
    return null;
  }
  try {
    Object.assign(state, settings.read());
  } catch (error) {
    settings.refuse(error);
    return null;
  }
  if (state.file) Object.assign(state, { linked: await model.linked() });
  return state;
}

function accept() {
  model.accept();
  settings.accept();
  complain($("device-error"), "", picker.field);
  complain($("ask-error"), "");
}

const linkState = ({ devices, file, linked, ...rest }) => ({ ...rest, ...linked, device: devices });

/** {link, left}: a link to what the form says, and what could not be put into it; null if it is wrong. */
export async function link() {
  const state = await read();
  if (!state) return null;
  const { yaml } = linkState(state);
  const binary = state.file && yaml === undefined;
  const left = binary ? "Choose the file again after opening it: an upload is not part of a link."
    : yaml !== undefined && !fits(yaml) ? "The text is too long for a link and is not part of it." : "";
  return { link: encode(linkState(state)), left };
}

// -- asking ---------------------------------------------------------------------------------------

function request(state, signal) {
  const several = state.devices.length > 1;
  const path = several ? "v1/compare" : "v1/predict";
  const body = settings.asked(state, several);
  if (several) body.devices = state.devices;
  else if (state.devices.length) body.device = state.devices[0];
  if (state.model) return post(path, { ...body, ...(several ? { models: [state.model] } : { model: state.model }) }, { signal });
  const form = new FormData();
  form.append("settings", JSON.stringify(body));
  form.append("file", state.file ?? new File([state.yaml], "config.yaml", { type: "application/yaml" }));
  return post(path, form, { signal });
}

/** Asks and shows; true where an answer came. */
export async function predict(state) {
  running?.abort();
  const mine = running = new AbortController();
  busy(true);
  try {
    show(await request(state, mine.signal));
    return true;
  } catch (error) {
    if (mine === running && error.name !== "AbortError") refuse(error, state);
    return false;
  } finally {
    if (mine === running) busy(false);
  }
}

function busy(on) {
  const answer = $("answer");
  answer.setAttribute("aria-busy", String(on));
  answer.classList.toggle("busy", on);
  $("predict").textContent = on ? "Predicting …" : "Predict";
}

function show(data) {
  const comparison = Array.isArray(data.estimates);
  const cards = comparison ? compareCards(data, picker.byName) : answerCards(data, picker.byName(data.device));
  $("answer").replaceChildren(...cards);
  say(comparison ? spokenComparison(data) : spoken(data));
  goTo($("answer"), $("ask"));
}

/** A message beside the field that it is about, as far as its code says which that is. */
function refuse(error, state) {
  if (!(error instanceof ApiError)) throw error;
  const { code, status, text } = error;
  const general = status === 0 || status >= 429 || status === 403;
  if (general) {
    complain($("ask-error"), text);
    $("predict").focus();
  } else if (/device/.test(code)) {
    complain($("device-error"), text, picker.field);
    picker.focus();
  } else if (/target|runtime|precision|power|conflict/.test(code) && state.model) {
    complain($("settings-error"), text, $("target"));
    $("target").focus();
  } else {
    model.refuse(text);
  }
  $("answer").replaceChildren(element("div", { class: "card empty" }, element("h2", {}, "No result"),
    element("p", { class: "soft" }, "The message beside the form says what is wrong.")));
}

// -- links ----------------------------------------------------------------------------------------

/** Fills the form from a link's state; returns what was wrong with it. */
export function fill(state) {
  accept();
  model.fill(state);
  const unknown = picker.choose(state.device ?? []);
  settings.fill(state);
  return unknown.map((name) => `device: this server knows no '${name}'`);
}

export async function predictAsFilled() {
  const state = await read();
  return state ? predict(state) : false;
}
