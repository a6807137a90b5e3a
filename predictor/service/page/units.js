// Numbers as people read them; the rules are those of predictor/report/units.py.
const TIMES = [[1e3, "s"], [1, "ms"], [1e-3, "us"]];
const COUNTS = [[1e12, "T"], [1e9, "G"], [1e6, "M"], [1e3, "k"]];
const BYTES = [[1e12, "TB"], [1e9, "GB"], [1e6, "MB"], [1e3, "kB"]];
const RATES = [[1e15, "PFLOP/s"], [1e12, "TFLOP/s"], [1e9, "GFLOP/s"], [1e6, "MFLOP/s"], [1e3, "kFLOP/s"]];

const known = (value) => typeof value === "number" && Number.isFinite(value);
const plain = (value) => String(Number(value.toPrecision(6)));

/** As Python rounds: to the nearest, and what lies exactly between two to the even one. */
function fixed(value, places) {
  const exact = Math.abs(value).toFixed(places + 20), tie = exact.endsWith(`5${"0".repeat(19)}`);
  const lower = exact.slice(0, -20).replace(/\.$/, "");
  const text = tie && Number(lower.at(-1)) % 2 === 0 ? lower : Math.abs(value).toFixed(places);
  return (value < 0 ? "-" : "") + (places ? text : text.replace(/\B(?=(\d{3})+$)/g, ","));
}

/** Three significant digits without an exponent; whole numbers from 1000 on. */
export function digits(value) {
  if (!known(value)) return "–";
  const size = Math.abs(value);
  if (size === 0) return "0";
  const places = size < 0.0995 ? 4 : size < 0.995 ? 3 : size < 9.995 ? 2 : size < 99.95 ? 1 : 0;
  return fixed(value, places);
}

function stepped(value, steps, rest) {
  if (!known(value)) return "–";
  const found = steps.find(([step]) => Math.abs(value) >= step * 0.9995);
  return found ? `${digits(value / found[0])} ${found[1]}` : rest(value);
}

/** A duration given in ms, in `unit` or in the one that fits. */
export function milliseconds(value, unit) {
  if (!known(value)) return "–";
  const [step, name] = TIMES.find(([s, n]) => unit ? n === unit : Math.abs(value) >= s * 0.9995) ?? TIMES[2];
  return `${digits(value / step)} ${name}`;
}
export const timeUnit = (value) => milliseconds(value).split(" ").at(-1);

/** The unit for `value` ms in a column of `usual`: its own where digits would be lost. */
export function unitBeside(value, usual) {
  const step = TIMES.find(([, name]) => name === usual)?.[0] ?? 1;
  return Math.abs(value) >= 0.01 * step || value === 0 ? usual : timeUnit(value);
}

/** `1.12 to 2.14 ms`, both ends in the unit of `value`. */
export function span([low, high], value, word = "to") {
  const unit = timeUnit(value);
  return `${milliseconds(low, unit).split(" ")[0]} ${word} ${milliseconds(high, unit)}`;
}

export const count = (value) => stepped(value, COUNTS, plain);
export const bytes = (value) => stepped(value, BYTES, (v) => `${plain(v)} B`);
export const megabytes = (value) => known(value) ? bytes(value * 1e6) : "–";
export const flopRate = (value) => stepped(value, RATES, (v) => `${digits(v)} FLOP/s`);
export const percent = (share) => known(share) ? `${fixed(100 * share, 1)} %` : "–";
export const wholePercent = (share) => known(share) ? `${fixed(100 * share, 0)} %` : "–";
export const pct = (value) => known(value) ? `${digits(value)} %` : "–";

/** A quantity in the unit that budgets and figures name: ms, MB, or a count. */
export function quantity(value, unit) {
  if (unit === "ms") return milliseconds(value);
  if (unit === "MB") return megabytes(value);
  return unit && unit !== "count" ? `${count(value)} ${unit}` : count(value);
}

/** `text` with control characters escaped: no name may turn the direction of a line. */
export function printable(text) {
  return String(text ?? "").replace(/[\p{C}\p{Zl}\p{Zp}]|(?! )\p{Zs}/gu, (char) => {
    const code = char.codePointAt(0);
    return code < 256 ? `\\x${code.toString(16).padStart(2, "0")}`
      : `\\u${code.toString(16).padStart(4, "0")}`;
  });
}
/** The same for messages of several lines. */
export const lines = (text) => String(text ?? "").split(/\r?\n/).map(printable).join("\n");

export const capped = (text, most = 60) => text.length > most ? `${text.slice(0, most - 1)}…` : text;
