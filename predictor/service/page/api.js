// Requests to the server that served the page, and what its errors say.
import { lines } from "./units.js";

const TOKEN = "predict-latency-token";
let waiting = null;  // everything that was refused waits for one answer to one question
let askForToken = async () => { throw new Error("no way to ask for a token"); };

export class ApiError extends Error {
  constructor(status, code, message, requestId = "", wait = 0) {
    super(message);
    Object.assign(this, { status, code, requestId, wait });
  }

  /** The message, and when another attempt makes sense. */
  get text() {
    const again = this.wait ? `\nTry again in ${this.wait} s.` : "";
    const internal = this.status >= 500 && this.requestId ? `\nRequest ${lines(this.requestId)}.` : "";
    return lines(this.message) + again + internal;
  }
}

/** `ask(refused)` resolves to a token; `refused` says that there was one and it was wrong. */
export function onTokenWanted(ask) {
  askForToken = ask;
}

function stored() {
  try {
    return sessionStorage.getItem(TOKEN) ?? "";
  } catch {
    return "";
  }
}

let token = stored();

async function newToken() {
  waiting ??= askForToken(token !== "").then((given) => {
    token = given;
    try {
      sessionStorage.setItem(TOKEN, given);
    } catch { /* storage is switched off: it holds for this page */ }
  }).finally(() => { waiting = null; });
  return waiting;
}

async function failure(answer) {
  const wait = Number.parseInt(answer.headers.get("Retry-After") ?? "", 10) || 0;
  let told = null;
  try {
    told = (await answer.json()).error;
  } catch { /* no JSON: a proxy answered, or the connection broke */ }
  const message = typeof told?.message === "string" && told.message ? told.message
    : `The server answered ${answer.status} ${answer.statusText}`.trimEnd();
  return new ApiError(answer.status, String(told?.code ?? ""), message, String(told?.request_id ?? ""), wait);
}

/** The response of a request that succeeded; asks for a token where one is wanted. */
export async function request(path, options = {}) {
  for (;;) {
    const used = token;
    const headers = { ...options.headers, ...(used ? { Authorization: `Bearer ${used}` } : {}) };
    let answer;
    try {
      answer = await fetch(path, { ...options, headers });
    } catch (error) {
      if (error.name === "AbortError") throw error;
      throw new ApiError(0, "unreachable", "The server cannot be reached. Is it still running?");
    }
    if (answer.status === 401) {
      // Another request may have brought a new token meanwhile.
      if (used === token) await newToken();
      continue;
    }
    if (!answer.ok) throw await failure(answer);
    return answer;
  }
}

export async function get(path, options) {
  return read(await request(path, options));
}

export async function post(path, body, options = {}) {
  const plain = !(body instanceof FormData);
  return read(await request(path, {
    method: "POST", ...options,
    headers: plain ? { "Content-Type": "application/json" } : {},
    body: plain ? JSON.stringify(body) : body,
  }));
}

async function read(answer) {
  try {
    return await answer.json();
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ApiError(answer.status, "unreadable", "The server's answer is no JSON.");
  }
}

/** Server-sent events of a path, one by one as {event, data}; EventSource could send no token. */
export async function* events(path, options) {
  const answer = await request(path, { ...options, headers: { Accept: "text/event-stream" } });
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      const blocks = (rest + value).replaceAll("\r\n", "\n").split("\n\n");
      rest = blocks.pop();
      for (const block of blocks) yield eventOf(block);
    }
  } finally {
    reader.cancel().catch(() => {});  // whoever has heard enough lets go of the connection
  }
}

function eventOf(block) {
  const found = { event: "message", data: "" };
  for (const line of block.split("\n")) {
    const [, name, text] = /^(event|data): ?(.*)$/.exec(line) ?? [];
    if (name === "event") found.event = text;
    else if (name === "data") found.data += found.data ? `\n${text}` : text;
  }
  return found;
}
