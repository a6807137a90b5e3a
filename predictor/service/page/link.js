// The inputs as a URL fragment and back. A fragment comes from anybody: every part is checked, what
// does not pass is left out and told, and values only ever become values of fields.
import { capped, printable } from "./units.js";

const LONGEST = 64 * 1024;
const LONGEST_YAML = 24 * 1024;
const WORD = /^[A-Za-z0-9][A-Za-z0-9_.+-]{0,99}$/;

const whole = (least) => (text) => {
  const value = Number(text);
  if (!/^\d{1,9}$/.test(text) || value < least) throw new Error(`is no whole number from ${least}`);
  return value;
};
function positive(text) {
  const value = Number(text);
  if (!/^\d{0,9}(\.\d{1,9})?$/.test(text) || !(value > 0)) throw new Error("is no number above 0");
  return value;
}
const oneOf = (...words) => (text) => {
  if (!words.includes(text)) throw new Error(`is none of ${words.join(", ")}`);
  return text;
};
function word(text) {
  if (!WORD.test(text)) throw new Error("is no name");
  return text;
}
function modelName(text) {
  if (!text || text.length > 2048 || text !== printable(text)) throw new Error("is no model name");
  return text;
}
export function resolution(text) {
  const found = /^(\d{1,5})(?:[x×](\d{1,5}))?$/i.exec(text.trim());
  if (!found || Number(found[1]) < 1 || Number(found[2] ?? 1) < 1) {
    throw new Error("is no resolution such as 224 or 360x640");
  }
  return text.trim();
}
/** `1x3x224x224, 1x10` as lists of sizes. */
export function shapes(text) {
  return text.split(",").map((part) => {
    if (!/^\s*\d{1,9}(\s*[x×]\s*\d{1,9}){0,7}\s*$/i.test(part)) {
      throw new Error("is no shape such as 1x3x224x224");
    }
    return part.split(/[x×]/i).map(Number);
  });
}
function shapesText(text) {
  shapes(text);
  return text;
}

function toBase64(text) {
  const raw = Array.from(new TextEncoder().encode(text), (byte) => String.fromCharCode(byte)).join("");
  return btoa(raw).replaceAll("+", "-").replaceAll("/", "_").replace(/=+$/, "");
}
function fromBase64(text) {
  try {
    const raw = atob(text.replaceAll("-", "+").replaceAll("_", "/"));
    return new TextDecoder("utf-8", { fatal: true }).decode(Uint8Array.from(raw, (c) => c.charCodeAt(0)));
  } catch {
    throw new Error("is cut off or damaged");
  }
}

const PARTS = {
  view: oneOf("search"), model: modelName, yaml: fromBase64, device: word,
  runtime: word, precision: word, software: modelName, batch: whole(1), resolution, power_mode: word,
  budget: positive, scope: oneOf("engine", "call"), phase: oneOf("prefill", "decode"),
  sequence: whole(1), context: whole(0), inputs: shapesText,
  space: word, signal: word, sampler: word, trials: whole(1), seed: whole(0), aim: oneOf("best", "front"),
};

/** True where the text is short enough for a link. */
export const fits = (yaml) => new TextEncoder().encode(yaml).length <= LONGEST_YAML;

/** `#model=...&device=...` of what is set; a text that is too long for a link is left out. */
export function encode(state) {
  const parts = [];
  const add = (key, value) => parts.push(`${key}=${encodeURIComponent(value).replaceAll("%3A", ":")}`);
  for (const key of Object.keys(PARTS)) {
    const value = state[key];
    if (value === undefined || value === null || value === "") continue;
    if (key === "yaml") {
      if (fits(value)) add(key, toBase64(value));
    } else {
      for (const one of [value].flat()) add(key, one);
    }
  }
  return `#${parts.join("&")}`;
}

/** {state, problems}: what could be read, and in words what could not. */
export function decode(fragment) {
  const state = {}, problems = [];
  const text = fragment.replace(/^#/, "");
  if (text.length > LONGEST) return { state, problems: ["it is too long"] };
  for (const part of text.split("&").filter(Boolean)) {
    const at = part.indexOf("=");
    const key = at < 0 ? part : part.slice(0, at), given = at < 0 ? "" : part.slice(at + 1);
    const shown = (value) => `'${capped(printable(value))}'`;
    if (at < 0 || !Object.hasOwn(PARTS, key)) {
      problems.push(`${shown(key)} is no part of a link`);
      continue;
    }
    let value = given;
    try {
      value = decodeURIComponent(given);
      const read = PARTS[key](value);
      if (key === "device") (state.device ??= []).push(read);
      else state[key] = read;
    } catch (error) {
      const why = error instanceof URIError ? "is cut off or damaged" : error.message;
      problems.push(`${key}: ${shown(value)} ${why}`);
    }
  }
  if (state.model && state.yaml) {
    problems.push("it holds both a model name and a text; the name is left out");
    delete state.model;
  }
  return { state, problems };
}
