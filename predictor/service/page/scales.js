// Scales from values to places, with their ticks.

/** Round values between `low` and `high`, about `wanted` of them. */
function roundTicks(low, high, wanted) {
  const raw = (high - low) / wanted, power = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 5, 10].map((m) => m * power).find((s) => s >= raw * 0.999);
  const ticks = [];
  for (let n = Math.ceil(low / step - 1e-9); n * step <= high * (1 + 1e-9); n++) ticks.push(n * step);
  return ticks;
}

export function linear(low, high, from, to) {
  if (!(high > low)) high = low + (Math.abs(low) || 1);
  return {
    to: (value) => from + (to - from) * (value - low) / (high - low),
    ticks: (wanted) => roundTicks(low, high, wanted),
  };
}

/** A linear scale with some air around the values. */
export function around(values, from, to) {
  let low = Math.min(...values), high = Math.max(...values);
  const pad = (high - low) * 0.06 || Math.abs(low) * 0.05 || 1;
  low = low >= 0 ? Math.max(0, low - pad) : low - pad;
  high += pad;
  return linear(low, high, from, to);
}

/** A logarithmic scale that ends at whole decades. */
export function decades(values, from, to) {
  const low = Math.floor(Math.log10(Math.min(...values)));
  const high = Math.max(Math.ceil(Math.log10(Math.max(...values) * 1.05)), low + 1);
  return {
    low: 10 ** low, high: 10 ** high,
    to: (value) => from + (to - from) * (Math.log10(value) - low) / (high - low),
    /** Every decade, or every second or third where `room` pixels hold no more. */
    ticks: (room) => {
      const every = Math.max(1, Math.ceil((high - low) * room / Math.abs(to - from)));
      return Array.from({ length: Math.floor((high - low) / every) + 1 }, (_, i) => 10 ** (low + i * every));
    },
  };
}
