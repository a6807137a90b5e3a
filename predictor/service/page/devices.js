// A list of devices to choose from: found by typing, ticked by mouse or by keys. Only one box is a
// stop of the Tab key; arrows go on from there, so that 150 devices are no 150 stops.
import { button, element, say } from "./dom.js";
import { pct, printable } from "./units.js";

const KINDS = { gpu: "GPUs", cpu: "CPUs", npu: "NPUs" };
const TIERS = ["measured", "calibrated", "datasheet"];

export const usualTarget = (device) => device.targets.find((target) => target.default) ?? device.targets[0];
const tierOf = (device) => usualTarget(device)?.tier ?? "datasheet";

/** Median error on families of networks that were left out, in percent; null where none is known. */
export function errorOf(target) {
  const card = target?.accuracy;
  const median = (card?.protocols ?? card)?.family?.median_pct;
  return typeof median === "number" ? median : null;
}

function textOf(device) {
  const runtimes = device.targets.map((target) => target.runtime);
  return [device.name, device.title, ...device.aliases, device.kind, device.generation, ...runtimes]
    .join(" ").toLowerCase();
}

export function devicePicker(root, { prefix, onChange = () => {} }) {
  const find = element("input", { id: `${prefix}-find`, type: "search", autocomplete: "off", spellcheck: "false",
    placeholder: "jetson, rtx, raspberry, npu …", "aria-describedby": `${prefix}-count ${prefix}-error` });
  const count = element("p", { id: `${prefix}-count`, class: "soft small below", role: "status" }, "Loading …");
  const chips = element("div", { class: "chips", role: "group", "aria-label": "Chosen devices" });
  const list = element("div", { class: "list", role: "group", "aria-label": "Devices" });
  root.classList.add("picker");
  root.append(element("label", { for: find.id }, "Find a device"), find, list, count, chips);
  let items = [], chosen = [];

  // -- the list -----------------------------------------------------------------------------------

  function load(devices) {
    const order = [...devices].sort((a, b) => a.title.localeCompare(b.title, "en", { numeric: true }));
    items = [];
    list.replaceChildren();
    for (const kind of new Set([...Object.keys(KINDS), ...order.map((device) => device.kind)])) {
      for (const tier of TIERS) {
        const group = order.filter((device) => device.kind === kind && tierOf(device) === tier);
        if (group.length) list.append(groupOf(kind, tier, group));
      }
    }
    filter();
  }

  function groupOf(kind, tier, devices) {
    const head = element("div", { class: "head", id: `${prefix}-${kind}-${tier}` }, `${KINDS[kind] ?? printable(kind)}, ${tier}`);
    const group = element("div", { class: "group", role: "group", "aria-labelledby": head.id }, head);
    for (const device of devices) {
      const box = element("input", { type: "checkbox", tabindex: "-1", value: device.name });
      const error = errorOf(usualTarget(device));
      const label = element("label", { class: "item" }, box,
        element("span", {}, printable(device.title), " ", element("small", {}, printable(device.name))),
        error === null ? "" : element("small", { class: "error-of" }, element("span", { class: "unseen" }, "error "), pct(error)));
      box.addEventListener("change", () => toggle(device.name, box.checked));
      group.append(label);
      items.push({ device, box, label, group, text: textOf(device) });
    }
    return group;
  }

  const visible = () => items.filter((item) => !item.label.hidden);

  function filter() {
    const words = find.value.toLowerCase().split(/\s+/).filter(Boolean);
    for (const item of items) item.label.hidden = !words.every((word) => item.text.includes(word));
    for (const group of new Set(items.map((item) => item.group))) {
      group.hidden = !items.some((item) => item.group === group && !item.label.hidden);
    }
    const found = visible();
    count.textContent = !items.length ? "" : found.length
      ? `${found.length === items.length ? "" : `${found.length} of `}${items.length} devices; % is the median error on left-out networks` : "No device is called that.";
    stop(found.find((item) => item.box.checked) ?? found[0]);
  }

  /** The one box that the Tab key reaches. */
  function stop(at) {
    for (const item of items) item.box.tabIndex = item === at ? 0 : -1;
  }

  // -- choosing -----------------------------------------------------------------------------------

  function toggle(name, on) {
    chosen = on ? [...chosen.filter((other) => other !== name), name] : chosen.filter((other) => other !== name);
    show();
    onChange(chosen);
  }

  function show() {
    for (const item of items) item.box.checked = chosen.includes(item.device.name);
    chips.replaceChildren(...chosen.map((name) => {
      const title = printable(byName(name)?.title ?? name);
      return button(title, () => drop(name), { class: "chosen", "aria-label": `Remove ${title}` });
    }));
  }

  function drop(name) {
    const at = chosen.indexOf(name);
    toggle(name, false);
    say(`${printable(byName(name)?.title ?? name)} removed`);
    (chips.children[Math.min(at, chips.children.length - 1)] ?? find).focus();
  }

  const byName = (name) => items.find(({ device }) => device.name === name)?.device;
  const named = (name) => byName(name) ?? items.find(({ device }) => device.aliases.includes(name))?.device;

  /** Ticks exactly these, by name or alias; returns those that are not known. */
  function choose(names) {
    const unknown = names.filter((name) => !named(name));
    chosen = [...new Set(names.map(named).filter(Boolean).map((device) => device.name))];
    show();
    filter();
    onChange(chosen);
    return unknown;
  }

  // -- keys ---------------------------------------------------------------------------------------

  find.addEventListener("input", filter);
  find.addEventListener("keydown", (event) => {
    if (event.key === "ArrowDown") {
      event.preventDefault();
      (visible().find((item) => item.box.tabIndex === 0) ?? visible()[0])?.box.focus();
    } else if (event.key === "Enter") {
      event.preventDefault();
      const typed = find.value.trim().toLowerCase();
      const best = typed && (named(typed) ?? visible()[0]?.device);
      if (!best) return;
      toggle(best.name, !chosen.includes(best.name));
      say(`${printable(best.title)} ${chosen.includes(best.name) ? "chosen" : "removed"}`);
    } else if (event.key === "Escape" && find.value) {
      find.value = "";
      filter();
    }
  });
  list.addEventListener("focusin", (event) => {
    const item = items.find(({ box }) => box === event.target);
    if (item) stop(item);
  });
  list.addEventListener("keydown", (event) => {
    const order = visible(), at = order.findIndex(({ box }) => box === event.target);
    const next = { ArrowDown: at + 1, ArrowUp: at - 1, Home: 0, End: order.length - 1,
      PageDown: Math.min(at + 8, order.length - 1), PageUp: Math.max(at - 8, 0) }[event.key];
    if (at < 0 || next === undefined) return;
    event.preventDefault();
    if (next < 0) find.focus();
    else order[Math.min(next, order.length - 1)].box.focus();
  });

  return { load, choose, byName, chosen: () => [...chosen], focus: () => find.focus(), field: find };
}
