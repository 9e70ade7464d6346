// How the scores of single answers are spread: a histogram a model over the same bins, of the
// scores or of the differences from the baseline. A bin opens its answers.

const MOST_BINS = 12;
// So few bins are wide enough to be clicked in a narrow card.
const FEW_BINS = 8;
// This share of the scores may lie in each of the open ends.
const TAIL = 0.01;

function startDistributions(view) {
  view.answers = null;
  const which = byId("spread-metric");
  which.addEventListener("change", () => {
    set({ spread: which.value });
    drawDistributions(view);
  });
  const kind = get("spreads") === "differences" ? "differences" : "scores";
  segments(byId("spread-kind"), "spreads", [["scores", t("overview.bars_scores")], ["differences", t("overview.bars_differences")]], kind, () => drawDistributions(view));
  byId("spread-kind").hidden = view.summary.models.length < 2;
  openAnswers().then(
    (answers) => {
      view.answers = answers;
      drawDistributions(view);
      // Win rates are counted over the answers.
      if (get("tint") === "wins") drawSlices(view);
    },
    () => {
      // What is wrong with the answers is said where they are shown.
    },
  );
}

function drawDistributions(view) {
  const { summary, answers, baseline } = view;
  const metrics = answers ? view.metrics.filter((metric) => metric.rows && answers.metrics.some((one) => one.name === metric.name)) : [];
  byId("spread").hidden = !metrics.length;
  if (!metrics.length) return;
  const metric = metrics.find((one) => one.name === get("spread")) ?? metrics[0];
  refill(byId("spread-metric"), metrics.map((one) => option(one.name, one.label, metric.name)));
  const differences = get("spreads") === "differences" && summary.models.length > 1 && answers.models.includes(baseline);
  byId("spread-intro").textContent = t(differences ? "overview.spread_differences" : "overview.spread_intro", { baseline: labelOf(summary, baseline) });
  const columns = summary.models
    .filter((model) => answers.models.includes(model.name) && !(differences && model.name === baseline))
    .map((model) => ({ model, values: spreadValues(answers, metric.name, model.name, differences ? baseline : null) }))
    .filter(({ values }) => values.length);
  const bins = binsOf(columns.flatMap(({ values }) => values));
  const counted = columns.map(({ model, values }) => ({
    model,
    values,
    counts: countIn(bins, values),
    mean: values.reduce((sum, value) => sum + value, 0) / values.length,
  }));
  const means = counted.map(({ mean }) => mean);
  const most = Math.max(...counted.map(({ counts, values }) => Math.max(...counts) / values.length), 0);
  byId("spread-cards").classList.toggle("few", bins.length <= FEW_BINS);
  refill(byId("spread-cards"), counted.map((column) => spreadCard(view, metric, column, { bins, most, means, differences })));
}

// The scores of a model, or their differences from the baseline's on the same prompts.
function spreadValues(answers, metric, model, baseline) {
  const own = answers.values(metric, model);
  if (!own) return [];
  const base = baseline === null ? null : answers.values(metric, baseline);
  if (baseline !== null && !base) return [];
  return Array.from(own, (value, row) => (base ? value - base[row] : value)).filter(isNumber);
}

// --- bins -------------------------------------------------------------------------------------------

// Bins from low to below high, in order and without gaps: one a value where there are few, else
// round ones; far outliers fall into open ends, whose bound is null.
function binsOf(values) {
  const different = fewValues(values);
  if (different) {
    const [first, last] = [different[0], different.at(-1)];
    if (different.every(Number.isInteger) && last - first < MOST_BINS) {
      return Array.from({ length: last - first + 1 }, (_, i) => first + i).map((value) => ({ low: value, high: value < last ? value + 1 : null, value }));
    }
    return different.map((value, i) => ({ low: value, high: different[i + 1] ?? null, value }));
  }
  const sorted = Float64Array.from(values).sort();
  const at = (share) => sorted[Math.round(share * (sorted.length - 1))];
  const [start, end] = [sorted[0], sorted.at(-1)];
  const [low, high] = [at(TAIL), at(1 - TAIL)];
  const width = high - low;
  // Without far outliers, or with nearly all scores the same, everything is shown at scale.
  const from = width && low - start > width / 4 ? low : start;
  const to = width && end - high > width / 4 ? high : end;
  const open = (from > start ? 1 : 0) + (to < end ? 1 : 0);
  const edges = roundEdges(from, to, MOST_BINS - open);
  const bins = edges.slice(1).map((edge, i) => ({ low: edges[i], high: edge }));
  if (from > start) bins.unshift({ low: null, high: edges[0] });
  if (to < end) bins.push({ low: edges.at(-1), high: null });
  else bins.at(-1).last = true;
  return bins;
}

// The different values in order, or null where there are more than bins.
function fewValues(values) {
  const found = new Set();
  for (const value of values) {
    found.add(value);
    if (found.size > MOST_BINS) return null;
  }
  return [...found].sort((x, y) => x - y);
}

// Round numbers in equal steps that hold low to high, at most `most` steps.
function roundEdges(low, high, most) {
  const raw = (high - low) / most;
  const power = 10 ** Math.floor(Math.log10(raw));
  for (const factor of [1, 2, 2.5, 5, 10, 20]) {
    const step = factor * power;
    const first = Math.floor(low / step + 1e-9);
    const last = Math.floor(high / step + 1e-9) + 1;
    if (last - first <= most) {
      return Array.from({ length: last - first + 1 }, (_, i) => Number(((first + i) * step).toPrecision(12)));
    }
  }
  return [low, high];
}

function countIn(bins, values) {
  const counts = bins.map(() => 0);
  for (const value of values) {
    const place = bins.findIndex(({ high }) => high === null || value < high);
    counts[place] += 1;
  }
  return counts;
}

// --- a card -----------------------------------------------------------------------------------------

function spreadCard(view, metric, { model, values, counts, mean }, { bins, most, means, differences }) {
  const buttons = bins.map((bin, i) => {
    const share = counts[i] / values.length;
    const text = t("overview.bin", { range: binText(metric, bin, bins), count: whole(counts[i]), share: fixed(100 * share, 1) });
    const bar = el("span", { class: `bin-bar s${seriesOf(view.summary, model.name)}` });
    bar.style.setProperty("height", `${most ? (100 * share) / most : 0}%`);
    const where = { low: bin.low, high: bin.last || bin.value !== undefined && i === bins.length - 1 ? null : bin.high, metric: metric.name };
    const condition = differences
      ? { kind: "gap", a: view.baseline, b: model.name, ...where }
      : { kind: "score", model: model.name, ...where };
    const opens = metricAnswers(view, metric, model.name, { where: [condition], sort: "set" });
    return withTip(linkedButton(opens, { class: "bin", "aria-label": `${model.label}: ${text}` }, bar), () => text);
  });
  const strip = el("div", { class: "bins", role: "group", "aria-label": `${metric.label}, ${model.label}` }, buttons);
  startGrid(strip, [buttons]);
  const shown = differences ? signedNumber(metric, mean, means) : metricNumber(metric, mean, means) + unitOf(metric);
  return el(
    "figure",
    { class: "card spread-card" },
    el(
      "figcaption",
      {},
      el("span", { class: "chart-title" }, el("bdi", {}, model.label)),
      el("span", { class: "quiet num", title: t("overview.n", { n: whole(values.length) }) }, t("overview.spread_mean", { mean: shown })),
    ),
    strip,
    binAxis(metric, bins),
  );
}

function binText(metric, bin, bins) {
  const show = (value) => metricNumber(metric, value, binScale(bins)) + unitOf(metric);
  if (bin.value !== undefined) return show(bin.value);
  if (bin.low === null) return `< ${show(bin.high)}`;
  if (bin.high === null) return `≥ ${show(bin.low)}`;
  return `${show(bin.low)} … ${show(bin.high)}`;
}

const binScale = (bins) => bins.flatMap(({ low, high, value }) => [value ?? low, value ?? high]).filter(isNumber);

// Labels below the bins: each value below its bin, or numbers at the edges of some.
function binAxis(metric, bins) {
  const single = bins[0].value !== undefined;
  const points = single
    ? bins.map((bin, i) => [bin.value, (100 * (i + 0.5)) / bins.length])
    : bins.flatMap((bin, i) => (bin.low === null ? [] : [[bin.low, (100 * i) / bins.length]])).concat(bins.at(-1).high === null ? [] : [[bins.at(-1).high, 100]]);
  const every = Math.ceil(points.length / 5);
  const shown = points.filter((_, i) => i % every === 0);
  const texts = metric.format === "percent" ? shown.map(([value]) => axisNumber(metric, value)) : tickLabels(shown.map(([value]) => value));
  return svg(
    "svg",
    { class: "bar-axis", width: "100%", height: 14, "aria-hidden": "true" },
    shown.map(([, x], i) =>
      svg("text", { x: `${x}%`, y: 11, "text-anchor": x < 4 ? "start" : x > 96 ? "end" : "middle" }, texts[i]),
    ),
  );
}
