// Which model: a name, layers in YAML, or a file.
import { $, button, complain, element } from "./dom.js";
import { megabytes, printable } from "./units.js";

const EXAMPLE = `model:
  name: small
  layers:
    - {type: conv2d, out: 32, kernel: 3, stride: 2, padding: 1, bias: false}
    - {type: batch_norm}
    - {type: relu}
    - {type: conv2d, out: 64, kernel: 3, stride: 2, padding: 1}
    - {type: relu}
    - {type: global_avg_pool}
    - {type: flatten}
    - {type: linear, out: 1000}
inputs: [1, 3, 224, 224]
`;
const LARGEST_TEXT = 1 << 20;

let file = null;
let onChange = () => {};

const from = () => document.querySelector("input[name=from]:checked").value;
const isYaml = (name) => /\.ya?ml$/i.test(name);
const fieldOf = () => $({ name: "model", yaml: "yaml", file: "file" }[from()]);

function show(which) {
  document.querySelector(`input[name=from][value=${which}]`).checked = true;
  for (const pane of document.querySelectorAll("[data-pane]")) pane.hidden = pane.dataset.pane !== which;
  clear();
}

function clear() {
  for (const id of ["model", "yaml", "file"]) complain($("model-error"), "", $(id));
}

function setFile(given) {
  file = given ?? null;
  $("file-edit").hidden = !file || !isYaml(file.name) || file.size > LARGEST_TEXT;
  $("file-help").textContent = file
    ? `${printable(file.name)}, ${megabytes(file.size / 1e6)}`
    : ".onnx, .pt2, .yaml or .yml; or drop one here. Weights are not needed.";
  clear();
  onChange();
}

function wireDrop() {
  const drop = $("drop");
  const over = (on) => (event) => {
    event.preventDefault();
    drop.classList.toggle("over", on);
  };
  drop.addEventListener("dragover", over(true));
  drop.addEventListener("dragleave", over(false));
  drop.addEventListener("drop", (event) => {
    over(false)(event);
    const given = event.dataTransfer.files[0];
    if (!given) return;
    // The field itself shows what was dropped.
    const files = new DataTransfer();
    files.items.add(given);
    $("file").files = files.files;
    setFile(given);
  });
  // A file that misses the field must not replace the page.
  for (const kind of ["dragover", "drop"]) addEventListener(kind, (event) => event.preventDefault());
}

export function start(changed) {
  onChange = changed;
  for (const radio of document.querySelectorAll("input[name=from]")) {
    radio.addEventListener("change", () => { show(radio.value); onChange(); });
  }
  $("file").addEventListener("change", () => setFile($("file").files[0]));
  $("file-edit").addEventListener("click", async () => {
    $("yaml").value = await file.text();
    show("yaml");
    $("yaml").focus();
  });
  $("yaml-example").addEventListener("click", () => {
    $("yaml").value = EXAMPLE;
    clear();
    $("yaml").focus();
  });
  for (const id of ["model", "yaml"]) $(id).addEventListener("input", clear);
  wireDrop();
}

/** What GET /v1/models offers: names to complete, and examples to click on. */
export function load({ sources = [], examples = [] }) {
  $("models").replaceChildren(...sources.flatMap(({ prefix, names }) =>
    names.map((name) => element("option", { value: `${prefix}:${name}` }))),
  ...examples.map(({ name, title }) => element("option", { value: name, label: printable(title) })));
  $("examples").replaceChildren(...examples.slice(0, 8).map(({ name, title }) => button(printable(title || name), () => {
    $("model").value = name;
    clear();
    $("model").focus();
    onChange();
  }, { title: name })));
  const prefixes = sources.map(({ prefix }) => `${prefix}:`);
  $("model-help").textContent = prefixes.length ? `Names begin with ${prefixes.join(", ")}` : "";
}

/** {model} or {yaml} or {file}; throws a text for the field where there is none. */
export function read() {
  if (from() === "name") {
    const model = $("model").value.trim();
    if (!model) throw new Error("Choose a model first: a name such as torchvision:resnet18.");
    return { model };
  }
  if (from() === "yaml") {
    const yaml = $("yaml").value;
    if (!yaml.trim()) throw new Error("Paste a configuration first, or put in the example.");
    return { yaml };
  }
  if (!file) throw new Error("Choose a file first.");
  return { file };
}

/** The text that stands for the model in a link, as {model} or {yaml}; a binary has none. */
export async function linked() {
  const given = read();
  if (!given.file) return given;
  const small = isYaml(given.file.name) && given.file.size <= LARGEST_TEXT;
  return small ? { yaml: await given.file.text() } : {};
}

export function fill({ model, yaml }) {
  if (yaml !== undefined) {
    $("yaml").value = yaml;
    show("yaml");
  } else {
    $("model").value = model ?? "";
    show("name");
  }
}

/** A message beside the field; of one that names a line of the text, a way there. */
export function refuse(message) {
  const field = fieldOf();
  const line = from() === "yaml" && /:(\d+):\d+: /.exec(message)?.[1];
  const go = line && button(`Go to line ${line}`, () => select(Number(line)));
  complain($("model-error"), message, field, ...(go ? [go] : []));
  field.focus();
}

function select(number) {
  const field = $("yaml"), rows = field.value.split("\n");
  const begin = rows.slice(0, number - 1).join("\n").length + (number > 1 ? 1 : 0);
  field.focus();
  field.setSelectionRange(begin, begin + (rows[number - 1] ?? "").length);
  field.scrollTop = (number - 3) * (field.scrollHeight / rows.length);
}

export const accept = clear;
