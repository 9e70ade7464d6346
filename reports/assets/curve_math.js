// What a line chart has to reckon: smoothing, ranges, axes. Pure functions.

// A line shorter than this is not smoothed unless somebody asks for it.
const SMOOTH_FROM = 60;
const SMOOTH_SHARE = 0.05;

// A centred mean over `share` of the points, whose window narrows towards the ends; null where it
// would change nothing. Without a share, lines that are long and jagged get a twentieth.
function smoothed(values, share = null) {
  const count = values.length;
  if (share === 0) return null;
  if (share === null && (count < SMOOTH_FROM || !isJagged(values))) return null;
  const half = Math.max(share === null ? 2 : 1, Math.round((count * (share ?? SMOOTH_SHARE)) / 2));
  if (count < 5) return null;
  const sums = [0];
  for (const value of values) sums.push(sums.at(-1) + value);
  return values.map((_, i) => {
    const reach = Math.min(half, i, count - 1 - i);
    return (sums[i + reach + 1] - sums[i - reach]) / (2 * reach + 1);
  });
}

// Whether the line turns often: noise does, a schedule does not.
function isJagged(values) {
  let turns = 0;
  for (let i = 2; i < values.length; i += 1) {
    if ((values[i] - values[i - 1]) * (values[i - 1] - values[i - 2]) < 0) turns += 1;
  }
  return turns > 0.15 * values.length;
}

// The place of the number closest to `value` in an ascending list.
function nearest(xs, value) {
  let low = 0;
  let high = xs.length - 1;
  while (high - low > 1) {
    const middle = (low + high) >> 1;
    if (xs[middle] <= value) low = middle;
    else high = middle;
  }
  return Math.abs(xs[high] - value) < Math.abs(xs[low] - value) ? high : low;
}

// Smallest and largest; of a single value something around it.
function range(values) {
  let low = Infinity;
  let high = -Infinity;
  for (const value of values) {
    if (value < low) low = value;
    if (value > high) high = value;
  }
  if (low === high) {
    const pad = Math.abs(low) * 0.1 || 1;
    return [low - pad, high + pad];
  }
  return [low, high];
}

// The axis of these values: { log, low, high, ticks, labels, place(value) in 0..1 }. On a log axis
// values below its end, as zeros and means with zeros are, have no place (null); where one is negative, or fewer than two are
// positive, it is linear.
function axisOf(values, log, count = 5) {
  const positive = values.filter((value) => value > 0);
  if (log && positive.length > 1 && !values.some((value) => value < 0)) return logAxis(positive);
  let [low, high] = range(values);
  const pad = (high - low) * 0.05;
  // A quantity that is never negative keeps its zero when it comes near it.
  low = low >= 0 && low < 0.35 * high ? 0 : low - pad;
  high += pad;
  const marks = ticks(low, high, count);
  return { log: false, low, high, ticks: marks, labels: tickLabels(marks), place: (value) => (value - low) / (high - low) };
}

function logAxis(values) {
  const [least, most] = range(values);
  const [from, to] = [Math.log10(Math.max(least, Number.MIN_VALUE)), Math.log10(most)];
  const pad = Math.max(0.02, (to - from) * 0.05);
  const [low, high] = [10 ** (from - pad), 10 ** (to + pad)];
  const marks = logTicks(low, high);
  const place = (value) => (value >= low ? (Math.log10(value) - from + pad) / (to - from + 2 * pad) : null);
  return { log: true, low, high, ticks: marks, labels: marks.map(compact), place };
}

// Powers of ten between low and high; with 2 and 5 between them where they are few, and round
// steps where both ends lie close together.
function logTicks(low, high) {
  const first = Math.floor(Math.log10(low));
  const last = Math.ceil(Math.log10(high));
  const powers = last - first;
  const factors = powers <= 3 ? [1, 2, 5] : [1];
  const every = powers > 8 ? Math.ceil(powers / 6) : 1;
  const found = [];
  for (let power = first; power <= last; power += every) {
    for (const factor of factors) {
      const value = Number((factor * 10 ** power).toPrecision(12));
      if (value >= low && value <= high) found.push(value);
    }
  }
  return found.length > 1 ? found : ticks(low, high, 4).filter((value) => value > 0);
}

// The `d` of a path through the points; where one has no place, the line is broken.
function path(xs, ys, sx, sy) {
  let d = "";
  let broken = true;
  for (let i = 0; i < xs.length; i += 1) {
    const y = sy(ys[i]);
    if (y === null) {
      broken = true;
      continue;
    }
    d += `${broken ? "M" : "L"}${sx(xs[i]).toFixed(1)} ${y.toFixed(1)}`;
    broken = false;
  }
  return d;
}

// The outline of what lies between two lines.
function bandPath(xs, lows, highs, sx, sy) {
  const places = xs.map((x, i) => [sx(x), sy(lows[i]), sy(highs[i])]).filter(([, a, b]) => a !== null && b !== null);
  if (places.length < 2) return "";
  const upper = places.map(([x, , high]) => `${x.toFixed(1)} ${high.toFixed(1)}`);
  const lower = places.map(([x, low]) => `${x.toFixed(1)} ${low.toFixed(1)}`).reverse();
  return `M${upper.join("L")}L${lower.join("L")}Z`;
}
