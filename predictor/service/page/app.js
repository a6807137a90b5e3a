// Puts the page together: tabs, what the server knows, links, the token.
import { $, button, complain, element, say } from "./dom.js";
import { ApiError, get, onTokenWanted } from "./api.js";
import * as ask from "./ask.js";
import * as hunt from "./hunt.js";
import { decode, encode } from "./link.js";
import { printable } from "./units.js";

const VIEWS = ["predict", "search"];
let shown = "predict";

// -- tabs -----------------------------------------------------------------------------------------

function show(view, focus = false) {
  shown = view;
  for (const name of VIEWS) {
    const tab = $(`tab-${name}`), on = name === view;
    tab.setAttribute("aria-selected", String(on));
    tab.tabIndex = on ? 0 : -1;
    $(`view-${name}`).hidden = !on;
    if (on && focus) tab.focus();
  }
}

function wireTabs() {
  VIEWS.forEach((name, i) => {
    $(`tab-${name}`).addEventListener("click", () => show(name));
    $(`tab-${name}`).addEventListener("keydown", (event) => {
      const next = { ArrowRight: i + 1, ArrowLeft: i - 1, Home: 0, End: VIEWS.length - 1 }[event.key];
      if (next === undefined) return;
      event.preventDefault();
      show(VIEWS[(next + VIEWS.length) % VIEWS.length], true);
    });
  });
}

// A link to #answer would take the place of the inputs in the fragment.
function wireSkip() {
  $("skip").addEventListener("click", (event) => {
    event.preventDefault();
    const place = shown === "predict" ? $("answer") : $("found");
    place.focus();
    place.scrollIntoView();
  });
}

// -- notices --------------------------------------------------------------------------------------

function notice(title, texts, ...more) {
  const made = element("div", { class: "card notice bad", role: "alert" },
    element("div", {}, element("p", {}, title), texts.length ? element("ul", {}, texts.map((text) => element("li", {}, text))) : null, more),
    button("Close", () => made.remove(), { class: "small" }));
  $("notices").replaceChildren(made);
}

// -- links ----------------------------------------------------------------------------------------

/** Fills the form from the fragment and predicts, or says what is wrong with the link. */
async function open() {
  $("notices").replaceChildren();
  const fragment = location.hash;
  if (!fragment || fragment === "#") return;
  const { state, problems } = decode(fragment);
  const search = state.view === "search";
  show(search ? "search" : "predict");
  problems.push(...(search ? hunt : ask).fill(state).map(printable));
  if (problems.length) {
    notice("This link is damaged, or of another server. What could be read of it is filled in.", problems);
    return;
  }
  if (search) {
    say("The link's search is filled in. Start it with the button.");
    return;
  }
  if (state.model === undefined && state.yaml === undefined) {
    notice("This link holds no model: an uploaded file cannot be part of one. Choose the file again.", []);
    return;
  }
  await ask.predictAsFilled();
}

/** Keeps the inputs of an answer in the address, as a step to go back from. */
function remember(fragment) {
  if (location.hash !== fragment) history.pushState(null, "", fragment);
  $("notices").replaceChildren();
}

async function copy(made, opener, box, field) {
  if (!made) return;
  const url = new URL(made.link, location.href).href;
  let done = true;
  try {
    await navigator.clipboard.writeText(url);
  } catch {
    done = false;  // not over plain http of another host
  }
  field.value = url;
  box.hidden = done && !made.left;
  box.querySelector(".left")?.remove();
  if (made.left) box.append(element("p", { class: "small below left" }, made.left));
  const words = done ? "Link copied" : "Copy the link from the field";
  say([words, made.left].filter(Boolean).join(". "));
  if (!done) {
    field.focus();
    field.select();
    return;
  }
  const before = "Copy link";
  opener.textContent = "Copied";
  setTimeout(() => { opener.textContent = before; }, 1600);
}

function wireLinks() {
  $("copy-link").addEventListener("click", async () => copy(await ask.link(), $("copy-link"), $("link-box"), $("link-text")));
  $("copy-hunt").addEventListener("click", () => copy(hunt.linkNow(), $("copy-hunt"), $("hunt-box"), $("hunt-text")));
  addEventListener("popstate", open);  // back, forward, and a fragment by hand
}

// -- the token ------------------------------------------------------------------------------------

function askForToken(refused) {
  const form = $("token-form"), field = $("token");
  const before = document.activeElement;
  form.hidden = false;
  complain($("token-why"), refused ? "The server does not take this token. Another one?" : "This server answers those who have a token.", refused ? field : null);
  $("token-why").hidden = false;
  field.value = "";
  field.focus();
  return new Promise((resolve) => {
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      const given = field.value.trim();
      if (!given) {
        field.focus();
        return;
      }
      form.hidden = true;
      field.value = "";
      field.removeAttribute("aria-invalid");
      if (before instanceof HTMLElement && before !== document.body) before.focus();
      else $("model").focus();
      resolve(given);
    }, { signal: only(resolve) });
  });

  // One listener for one question.
  function only() {
    askForToken.last?.abort();
    askForToken.last = new AbortController();
    return askForToken.last.signal;
  }
}

// -- the beginning --------------------------------------------------------------------------------

async function load() {
  try {
    const [devices, spaces] = await Promise.all([get("v1/devices"), get("v1/spaces")]);
    ask.loadDevices(devices.devices);
    hunt.loadDevices(devices.devices);
    hunt.loadSpaces(spaces);
    return true;
  } catch (error) {
    if (!(error instanceof ApiError)) throw error;
    notice(error.text, [], button("Try again", begin));
    return false;
  }
}

/** Names to complete: seconds, where a server has just begun and libraries are read for them. */
async function loadModels() {
  try {
    const models = await get("v1/models");
    ask.loadModels(models);
    hunt.loadNames(models);
  } catch (error) {
    if (!(error instanceof ApiError)) throw error;
    $("model-help").textContent = `Names cannot be listed: ${error.text}`;
  }
}

/** A network of a front, shown layer by layer. */
async function take(model, devices) {
  show("predict", true);
  ask.fill({ model, device: devices });
  if (await ask.predictAsFilled()) remember(encode({ model, device: devices }));
}

async function begin() {
  $("notices").replaceChildren();
  document.body.setAttribute("aria-busy", "true");
  const ready = await load();
  document.body.setAttribute("aria-busy", "false");
  if (ready) await open();
  document.body.dataset.ready = String(ready);
  if (ready) await loadModels();
}

onTokenWanted(askForToken);
wireTabs();
wireSkip();
ask.start({ onAsked: remember });
hunt.start({ take, onStarted: remember });
wireLinks();
begin();
