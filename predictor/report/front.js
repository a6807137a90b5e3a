"use strict";
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const { trials, figures, limits, axes, parameters, unit } = data;
  const NUMBER = 0, KEY = 1, STATE = 2, OK = 3, FRONT = 4, ACCURACY = 5, FIGURES = 6, VALUES = 7,
    MISSED = 8, ERROR = 9;
  const PAGE = 200, MANY = 800;
  const WIDTH = 760, HEIGHT = 440, LEFT = 66, RIGHT = 18, TOP = 22, BOTTOM = 58;
  const $ = (id) => document.getElementById(id);
  const plot = $("plot"), tip = $("tip"), view = $("view"), body = $("trials").tBodies[0];
  let axis = axes.x[0], chosen = -1, points = [], ring = null;

  // -- texts ------------------------------------------------------------------------------------

  function digits(value) {
    const size = Math.abs(value);
    if (size === 0) return "0";
    const places = size < 0.0995 ? 4 : size < 0.995 ? 3 : size < 9.995 ? 2 : size < 99.95 ? 1 : 0;
    return value.toLocaleString("en", { minimumFractionDigits: places, maximumFractionDigits: places });
  }
  const STEPS = {
    ms: [[1e3, " s"], [1, " ms"], [1e-3, " us"]],
    MB: [[1e6, " TB"], [1e3, " GB"], [1, " MB"], [1e-3, " kB"]],
    "": [[1e12, " T"], [1e9, " G"], [1e6, " M"], [1e3, " k"], [1, ""]],
  };
  function measure(value, of) {
    if (value === null || value === undefined) return "–";
    const steps = STEPS[of];
    const [step, name] = steps.find(([s]) => Math.abs(value) >= s * 0.9995) ?? steps.at(-1);
    return digits(value / step) + name;
  }
  function accuracyText(value) {
    if (value === null) return "–";
    if (unit === "%") return value.toFixed(2) + " %";
    return String(Number(value.toPrecision(4))) + (unit && " " + unit);
  }
  const yOf = (t) => axes.y < 0 ? t[ACCURACY] : t[FIGURES][axes.y];
  const yText = (value) => axes.y < 0 ? accuracyText(value) : measure(value, figures[axes.y].unit);
  const yWords = () => axes.y < 0 ? "accuracy" + (unit && `, ${unit}`) : figures[axes.y].words;
  const stateOf = (t) => t[FRONT] ? `${t[STATE]}, on the front`
    : t[STATE] === "complete" && !t[OK] ? "complete, over a limit" : t[STATE];

  function element(tag, attributes = {}, ...children) {
    const made = document.createElement(tag);
    for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
    made.append(...children);
    return made;
  }
  function drawn(tag, attributes, text) {
    const made = document.createElementNS("http://www.w3.org/2000/svg", tag);
    for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
    if (text !== undefined) made.textContent = text;
    return made;
  }

  // -- the picture ------------------------------------------------------------------------------

  // Whatever the signal counts in: a tick has room for few characters.
  const compact = new Intl.NumberFormat("en", { notation: "compact", maximumFractionDigits: 2 });
  function plain(value) {
    return Math.abs(value) >= 1e5 ? compact.format(value) : String(Number(value.toPrecision(6)));
  }

  function ticksOf(low, high, wanted) {
    const raw = (high - low) / wanted;
    const power = 10 ** Math.floor(Math.log10(raw));
    const step = [1, 2, 5, 10].map((m) => m * power).find((s) => s >= raw * 0.999);
    const ticks = [];
    for (let n = Math.ceil(low / step - 1e-9); n * step <= high * (1 + 1e-9) + 1e-12; n++) ticks.push(n * step);
    return ticks;
  }
  function decades(low, high) {
    const ticks = [];
    for (let p = Math.floor(Math.log10(low)); p <= Math.ceil(Math.log10(high)); p++) {
      for (const m of [1, 2, 5]) if (m * 10 ** p >= low && m * 10 ** p <= high) ticks.push(m * 10 ** p);
    }
    return ticks;
  }
  // A scale from values to places; logarithmic where values lie more than a factor 30 apart.
  function scaleOf(values, from, to, wanted, mayLog) {
    let low = Math.min(...values), high = Math.max(...values);
    if (!(high > low)) { const pad = Math.abs(low) * 0.05 || 1; low -= pad; high += pad; }
    if (mayLog && low > 0 && high / low > 30) {
      low /= 1.15; high *= 1.15;
      const width = Math.log(high / low);
      return { to: (v) => from + (to - from) * Math.log(v / low) / width, ticks: decades(low, high) };
    }
    const pad = (high - low) * 0.05;
    low = low >= 0 ? Math.max(0, low - pad) : low - pad;
    high += pad;
    return { to: (v) => from + (to - from) * (v - low) / (high - low), ticks: ticksOf(low, high, wanted) };
  }
  const circle = (x, y, r) => `M${x - r} ${y}a${r} ${r} 0 1 0 ${2 * r} 0a${r} ${r} 0 1 0 ${-2 * r} 0`;
  const triangle = (x, y, r) => `M${x} ${y - r}l${r} ${1.8 * r}h${-2 * r}z`;
  const cross = (x, y, r) => `M${x - r} ${y - r}l${2 * r} ${2 * r}m0 ${-2 * r}l${-2 * r} ${2 * r}`;
  const round = (v) => Math.round(v * 10) / 10;

  function draw() {
    plot.replaceChildren();
    points = [];
    ring = null;
    const name = figures[axis]?.name, floor = HEIGHT - BOTTOM;
    const known = trials.map((t, i) => i).filter((i) => axis !== undefined && trials[i][FIGURES][axis] !== null);
    const scored = known.filter((i) => yOf(trials[i]) !== null);
    const lines = limits.filter((l) => l.name === name);
    plot.setAttribute("aria-label", `${yWords()} over ${figures[axis]?.words ?? "nothing"}`);
    if (!known.length) {
      plot.append(drawn("text", { x: WIDTH / 2, y: HEIGHT / 2, "text-anchor": "middle" }, "no trial has a figure yet"));
      $("plot-text").textContent = "";
      return;
    }
    const xs = known.map((i) => trials[i][FIGURES][axis]), ys = scored.map((i) => yOf(trials[i]));
    const x = scaleOf([...xs, ...lines.map((l) => l.limit)], LEFT, WIDTH - RIGHT, 7, true);
    const y = ys.length ? scaleOf(ys, floor - 22, TOP, 6, false) : { to: () => floor, ticks: [] };
    grid(x, y, floor);
    for (const line of lines) limitLine(line, x.to(line.limit), floor);
    const many = known.length > MANY;
    plot.classList.toggle("many", many);
    const paths = { "no": "", "ok": "", "tick no": "", "tick ok": "" };
    let best = "";
    for (const i of known) {
      const t = trials[i], value = yOf(t), px = round(x.to(t[FIGURES][axis])), kind = t[OK] ? "ok" : "no";
      const py = value === null ? floor - 6 : round(y.to(value));
      points.push([px, py, i]);
      if (value === null) paths[`tick ${kind}`] += t[OK] ? `M${px} ${floor - 11}v10` : cross(px, py, 2.6);
      else if (t[FRONT]) best += circle(px, py, many ? 4 : 5.5);
      else paths[kind] += t[OK] ? circle(px, py, many ? 2.2 : 3.6) : triangle(px, py, many ? 2.8 : 4.2);
    }
    for (const [kind, d] of Object.entries(paths)) if (d) plot.append(drawn("path", { class: kind, d }));
    stepLine(Math.min(WIDTH - RIGHT, ...lines.map((l) => x.to(l.limit))));
    if (best) plot.append(drawn("path", { class: "best", d: best }));
    points.sort((a, b) => a[0] - b[0]);
    mark();
    const left = known.length - scored.length, gone = trials.length - known.length;
    $("plot-text").textContent = `${scored.length.toLocaleString("en")} trials by their ${axes.y < 0 ? "accuracy" : yWords()}` +
      (left ? `; ${left.toLocaleString("en")} without one are marks at the bottom` : "") +
      (gone ? `; ${gone.toLocaleString("en")} without ${figures[axis].words} are not shown` : "") + ".";
  }
  function grid(x, y, floor) {
    for (const tick of y.ticks) {
      const py = round(y.to(tick));
      plot.append(drawn("line", { class: "grid", x1: LEFT, x2: WIDTH - RIGHT, y1: py, y2: py }));
      const text = axes.y < 0 ? plain(tick) : yText(tick);
      plot.append(drawn("text", { x: LEFT - 8, y: py + 4, "text-anchor": "end" }, text));
    }
    for (const tick of x.ticks) {
      const px = round(x.to(tick));
      plot.append(drawn("line", { class: "grid", x1: px, x2: px, y1: TOP, y2: floor }));
      plot.append(drawn("text", { x: px, y: floor + 18, "text-anchor": "middle" }, measure(tick, figures[axis].unit)));
    }
    plot.append(drawn("line", { class: "axis", x1: LEFT, x2: WIDTH - RIGHT, y1: floor, y2: floor }));
    plot.append(drawn("text", { class: "title", x: (LEFT + WIDTH - RIGHT) / 2, y: HEIGHT - 14, "text-anchor": "middle" }, figures[axis].words));
    plot.append(drawn("text", { class: "title", x: 16, y: (TOP + floor) / 2, "text-anchor": "middle", transform: `rotate(-90 16 ${(TOP + floor) / 2})` }, yWords()));
  }
  function limitLine(line, px, floor) {
    px = round(px);
    plot.append(drawn("rect", { class: "over-limit", x: px, y: TOP, width: Math.max(0, WIDTH - RIGHT - px), height: floor - TOP }));
    plot.append(drawn("line", { class: "limit", x1: px, x2: px, y1: TOP - 6, y2: floor }));
    const end = px > WIDTH * 0.6;
    plot.append(drawn("text", { class: "limit-text", x: end ? px - 6 : px + 6, y: TOP + 4, "text-anchor": end ? "end" : "start" },
      `limit ${measure(line.limit, figures[axis].unit)}`));
  }
  // What the front offers at each place of the x axis.
  function frontInOrder() {
    const sign = axes.y < 0 ? 1 : -1, seen = [];
    const front = points.filter(([, , i]) => trials[i][FRONT] && yOf(trials[i]) !== null);
    front.sort((a, b) => trials[a[2]][FIGURES][axis] - trials[b[2]][FIGURES][axis] || sign * (yOf(trials[b[2]]) - yOf(trials[a[2]])));
    for (const point of front) {
      if (!seen.length || sign * (yOf(trials[point[2]]) - yOf(trials[seen.at(-1)[2]])) > 0) seen.push(point);
    }
    return seen;
  }
  function stepLine(end) {
    const front = frontInOrder();
    if (!front.length) return;
    const d = front.map(([px, py], n) => n ? `H${px}V${py}` : `M${px} ${py}`).join("");
    plot.append(drawn("path", { class: "step", d: `${d}H${round(Math.max(end, front.at(-1)[0]))}` }));
  }
  function mark() {
    ring?.remove();
    ring = null;
    const point = points.find(([, , i]) => i === chosen);
    if (!point) return;
    ring = drawn("circle", { class: "ring", cx: point[0], cy: point[1], r: 9 });
    plot.append(ring);
  }

  // -- pointing and keys ------------------------------------------------------------------------

  function near(event) {
    const box = plot.getBoundingClientRect(), scale = WIDTH / box.width;
    const px = (event.clientX - box.left) * scale, py = (event.clientY - box.top) * scale;
    let found = null, least = 16 * 16;
    for (const point of points) {
      const far = (point[0] - px) ** 2 + (point[1] - py) ** 2;
      // Of points on one spot, one of the front is meant.
      if (far < least || (found && far === least && trials[point[2]][FRONT])) { found = point; least = far; }
    }
    return found;
  }
  plot.addEventListener("pointermove", (event) => {
    const point = near(event);
    tip.hidden = !point;
    if (!point) return;
    const t = trials[point[2]];
    tip.textContent = `trial ${t[NUMBER]}: ${yText(yOf(t))}, ${measure(t[FIGURES][axis], figures[axis].unit)}`;
    tip.style.left = `${Math.min(85, Math.max(15, 100 * point[0] / WIDTH))}%`;
    tip.style.top = `${100 * point[1] / HEIGHT}%`;
  });
  plot.addEventListener("pointerleave", () => { tip.hidden = true; });
  plot.addEventListener("click", (event) => {
    const point = near(event);
    if (point) choose(point[2]);
  });
  plot.addEventListener("keydown", (event) => {
    if (!points.length || event.ctrlKey || event.metaKey || event.altKey) return;
    const along = event.key === "ArrowUp" || event.key === "ArrowDown" ? frontInOrder() : points;
    const step = { ArrowRight: 1, ArrowUp: 1, ArrowLeft: -1, ArrowDown: -1, PageDown: 25, PageUp: -25 }[event.key];
    const jump = { Home: 0, End: along.length - 1 }[event.key];
    if ((step === undefined && jump === undefined) || !along.length) return;
    event.preventDefault();
    let at = along.findIndex(([, , i]) => i === chosen);
    if (at < 0) {  // from beside the list: the nearest of it
      const here = points.find(([, , i]) => i === chosen)?.[0] ?? 0;
      at = along.filter(([px]) => px <= here).length - (step > 0 ? 1 : 0);
    }
    choose(along[Math.min(along.length - 1, Math.max(0, jump ?? at + step))][2]);
  });

  // -- one trial --------------------------------------------------------------------------------

  function choose(index) {
    chosen = index;
    const t = trials[index];
    for (const row of body.rows) row.classList.toggle("chosen", row.dataset.trial === String(index));
    mark();
    const list = element("dl");
    const add = (word, text) => list.append(element("dt", {}, word), element("dd", {}, text));
    add("accuracy", accuracyText(t[ACCURACY]));
    const value = (name) => t[FIGURES][figures.findIndex((figure) => figure.name === name)] ?? null;
    figures.forEach(({ name, words, unit: of }, i) => {
      const [quantity, device] = name.split(/ (.*)/s);
      if (t[FIGURES][i] === null || quantity === "low_ms" || quantity === "high_ms") return;
      add(words, measure(t[FIGURES][i], of));
      const low = value(`low_ms ${device}`), high = value(`high_ms ${device}`);
      if (quantity === "latency_ms" && low !== null && high !== null) {
        add("90 % interval", `${measure(low, of)} – ${measure(high, of)}`);
      }
    });
    const parts = [element("h3", {}, `Trial ${t[NUMBER]}`), element("div", { class: "soft small" }, stateOf(t))];
    if (t[MISSED]) parts.push(element("div", { class: "missed small" }, t[MISSED]));
    if (t[ERROR]) parts.push(element("div", { class: "small" }, t[ERROR]));
    const key = element("div", { class: "key" }, t[KEY]);
    const copy = element("button", { type: "button" }, "Copy network");
    copy.addEventListener("click", () => copied(t[KEY], key, copy));
    parts.push(list, key, copy, valuesOf(t));
    view.replaceChildren(...parts);
    const where = axis === undefined ? "" : `, ${figures[axis].words} ${measure(t[FIGURES][axis], figures[axis].unit)}`;
    $("say").textContent = `Trial ${t[NUMBER]}, ${stateOf(t)}: accuracy ${accuracyText(t[ACCURACY])}${where}${t[MISSED] ? ", " + t[MISSED] : ""}`;
  }
  function valuesOf(t) {
    const rows = parameters.map((name, i) => [name, t[VALUES][i]]).filter(([, value]) => value !== null);
    const table = element("table", { "aria-label": "Values of the architecture" }, element("tbody", {},
      ...rows.map(([name, value]) => element("tr", {}, element("th", { scope: "row" }, name),
        element("td", { class: "num" }, value === true ? "yes" : value === false ? "no" : String(value))))));
    return element("div", { class: "values", tabindex: "0", role: "group", "aria-label": "Values of the architecture" }, table);
  }
  async function copied(text, shown, button) {
    try {
      await navigator.clipboard.writeText(text);
    } catch {  // not allowed from a file in some browsers
      getSelection().selectAllChildren(shown);
      document.execCommand("copy");
    }
    button.textContent = "Copied";
    $("say").textContent = "Copied";
    setTimeout(() => { button.textContent = "Copy network"; }, 1500);
  }

  // -- the table --------------------------------------------------------------------------------

  const columns = figures.map((figure, i) => i).filter((i) => figures[i].column);
  const reads = [(t) => t[NUMBER], (t) => t[ACCURACY], ...columns.map((i) => (t) => t[FIGURES][i]), stateOf, (t) => t[KEY]];
  const heads = [...$("trials").tHead.rows[0].cells];
  const SHOWN = {
    all: () => true, front: (t) => t[FRONT], ok: (t) => t[OK], no: (t) => !t[OK],
    scored: (t) => t[ACCURACY] !== null, bad: (t) => t[STATE] === "failed" || t[STATE] === "pruned",
  };
  let sorted = { column: 1, up: false }, room = PAGE;

  function icon(t) {
    const kind = t[FRONT] ? "best" : (t[ACCURACY] === null ? "tick " : "") + (t[OK] ? "ok" : "no");
    const d = kind === "tick no" ? cross(8, 8, 3) : kind === "tick ok" ? "M8 2V14" : kind === "no" ? triangle(8, 8, 5) : circle(8, 8, kind === "best" ? 5.5 : 4.5);
    const svg = drawn("svg", { class: `mark ${kind}`, viewBox: "0 0 16 16", "aria-hidden": "true" });
    svg.append(drawn("path", { d }));
    return svg;
  }
  function rowOf(index) {
    const t = trials[index], row = element("tr", { "data-trial": index });
    const pick = element("button", { type: "button", class: "pick", "aria-label": `Show trial ${t[NUMBER]}` }, String(t[NUMBER]));
    const number = (...content) => element("td", { class: "num" }, ...content);
    row.append(number(pick), number(accuracyText(t[ACCURACY])), ...columns.map((i) => number(measure(t[FIGURES][i], figures[i].unit))));
    const name = element("td", { class: "name" }, t[KEY]);
    name.title = t[KEY];
    row.append(element("td", {}, icon(t), stateOf(t)), name);
    if (index === chosen) row.classList.add("chosen");
    return row;
  }
  function list() {
    const text = $("find").value.toLowerCase(), wanted = SHOWN[$("show").value], read = reads[sorted.column];
    const found = trials.map((t, i) => i).filter((i) => wanted(trials[i]) && trials[i][KEY].toLowerCase().includes(text));
    const way = sorted.up ? 1 : -1;
    found.sort((a, b) => {
      const one = read(trials[a]), other = read(trials[b]);
      if (one === null || other === null) return (one === null) - (other === null) || a - b;
      return way * (typeof one === "number" ? one - other : one < other ? -1 : one > other ? 1 : 0) || a - b;
    });
    body.replaceChildren(...found.slice(0, room).map(rowOf));
    $("found").textContent = `${found.length.toLocaleString("en")} of ${trials.length.toLocaleString("en")}`;
    $("more").hidden = found.length <= room;
    heads.forEach((head, i) => {
      if (i === sorted.column) head.setAttribute("aria-sort", sorted.up ? "ascending" : "descending");
      else head.removeAttribute("aria-sort");
    });
  }
  heads.forEach((head, column) => head.querySelector("button").addEventListener("click", () => {
    // Best first: the first click on an accuracy sorts downwards, on anything else upwards.
    sorted = { column, up: sorted.column === column ? !sorted.up : column !== 1 };
    room = PAGE;
    list();
  }));
  body.addEventListener("click", (event) => {
    const row = event.target.closest("tr");
    if (row) choose(Number(row.dataset.trial));
  });
  body.addEventListener("focusin", (event) => {
    const row = event.target.closest("tr");
    if (row && event.target.matches(":focus-visible")) choose(Number(row.dataset.trial));
  });
  $("show").addEventListener("change", () => { room = PAGE; list(); });
  $("find").addEventListener("input", () => { room = PAGE; list(); });
  $("more").addEventListener("click", () => {
    const at = body.rows.length;
    room += PAGE;
    list();
    body.rows[at]?.querySelector("button").focus();
  });

  const options = axes.x.map((i) => element("option", { value: i }, figures[i].words));
  $("axis").append(...options);
  $("axis-label").hidden = options.length < 2;
  $("axis").addEventListener("change", () => { axis = Number($("axis").value); draw(); });
  draw();
  list();
  let best = -1;
  trials.forEach((t, i) => { if (t[FRONT] && (best < 0 || t[ACCURACY] > trials[best][ACCURACY])) best = i; });
  if (best >= 0) choose(best);
  $("say").textContent = "";  // nobody asked yet
})();
