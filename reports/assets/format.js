// Words and numbers.

let STRINGS = {};

// The string at `key`; values are put in once, so braces inside them stay as they are. Characters
// that turn the direction of writing would turn the sentence's own words: they are left out.
function t(key, values = {}) {
  const text = STRINGS[key];
  if (text === undefined) throw new Error(`no string '${key}'`);
  return text.replace(/\{(\w+)\}/g, (_, name) => {
    if (!(name in values)) throw new Error(`no value '${name}' for '${key}'`);
    return String(values[name]).replace(/[\u202a-\u202e\u2066-\u2069]/g, "");
  });
}

// The string at `key`, or `fallback` where there is none.
const known = (key, fallback) => (Object.hasOwn(STRINGS, key) ? STRINGS[key] : fallback);

const MINUS = "\u2212";
const isNumber = (value) => typeof value === "number" && Number.isFinite(value);

// A format for each count of decimals: to make one takes longer than to use it a hundred times.
const FORMATS = [];

function fixed(value, decimals) {
  FORMATS[decimals] ??= new Intl.NumberFormat("en-US", {
    minimumFractionDigits: decimals,
    maximumFractionDigits: decimals,
  });
  const text = FORMATS[decimals].format(Math.abs(value));
  return value < 0 && Number(text.replaceAll(",", "")) !== 0 ? MINUS + text : text;
}

const whole = (value) => fixed(value, 0);

// Decimals for numbers that stand together: two or three digits of the largest.
function decimalsFor(values) {
  const scale = Math.max(0, ...values.filter(isNumber).map(Math.abs));
  if (scale === 0) return 2;
  const size = Math.floor(Math.log10(scale));
  return size < 0 ? Math.min(5, 1 - size) : Math.max(0, 2 - size);
}

// A metric's value. Percent metrics are shares in 0..1.
function metricNumber(metric, value, scale = [value]) {
  if (!isNumber(value)) return "–";
  if (metric.format === "percent") return fixed(100 * value, 1);
  // Perplexities of one column can lie orders of magnitude apart.
  if (metric.format === "perplexity") return fixed(value, decimalsFor([value]));
  return fixed(value, decimalsFor(scale));
}

const axisNumber = (metric, value) =>
  metric.format === "percent" ? `${compact(100 * value)} %` : compact(value);

const unitOf = (metric) => (metric.format === "percent" ? " %" : "");

function signedNumber(metric, value, scale) {
  const text = metricNumber(metric, value, scale);
  return /^[\u2212\u2013]/.test(text) || Number(text.replaceAll(",", "")) === 0 ? text : `+${text}`;
}

function interval(metric, low, high, scale = [low, high]) {
  if (!isNumber(low) || !isNumber(high)) return "";
  return `[${metricNumber(metric, low, scale)}, ${metricNumber(metric, high, scale)}]`;
}

// Any number, short: 15.2k, 0.0012, 3e−7.
function compact(value) {
  if (!isNumber(value)) return "–";
  const size = Math.abs(value);
  if (size >= 1e6) return fixed(value / 1e6, size < 1e7 ? 1 : 0) + "M";
  if (size >= 1e4) return fixed(value / 1e3, size < 1e5 ? 1 : 0) + "k";
  if (size !== 0 && size < 1e-3) {
    const [head, power] = value.toExponential(1).split("e");
    return `${head.replace(/\.0$/, "").replace("-", MINUS)}e${power.replace("-", MINUS)}`;
  }
  const text = String(Number(value.toPrecision(3)));
  return text.replace("-", MINUS);
}

function pValue(p) {
  if (!isNumber(p)) return "–";
  return p < 0.001 ? "< 0.001" : fixed(p, 3);
}

// Labels of an axis, all with the same decimals, power or suffix.
function tickLabels(values) {
  const top = Math.max(...values.map(Math.abs));
  if (top === 0) return values.map(compact);
  const step = values.length > 1 ? Math.abs(values[1] - values[0]) : top;
  const [unit, suffix] = top >= 1e7 ? [1e6, "M"] : top >= 1e4 ? [1e3, "k"] : [1, ""];
  const power = top < 1e-3 ? Math.floor(Math.log10(top)) : 0;
  const scaled = step / unit / 10 ** power;
  const digits = Math.max(0, Math.ceil(-Math.log10(scaled) - 1e-9));
  const places = [digits, digits + 1].find((n) => Math.abs(scaled * 10 ** n - Math.round(scaled * 10 ** n)) < 1e-6) ?? digits + 1;
  const tail = power ? `e${fixed(power, 0)}` : suffix;
  return values.map((value) => (value === 0 ? "0" : fixed(value / unit / 10 ** power, places) + tail));
}

// Round steps for an axis: about `count` of them between low and high.
function ticks(low, high, count) {
  const span = high - low;
  if (!(span > 0)) return [low];
  const raw = span / Math.max(1, count);
  const power = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 2.5, 5, 10].map((m) => m * power).find((s) => s >= raw * 0.999);
  const first = Math.ceil(low / step - 1e-9);
  const last = Math.floor(high / step + 1e-9);
  const found = [];
  for (let i = first; i <= last; i += 1) found.push(Number((i * step).toPrecision(12)));
  return found;
}
