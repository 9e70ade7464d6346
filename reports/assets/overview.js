// The table models × metrics with marks against a chosen baseline, and the bars.

const MARKS = { better: "▲", worse: "▼", tie: "≈" };

function indexScores(summary) {
  const scores = new Map(summary.scores.map((s) => [JSON.stringify([s.model, s.metric]), s]));
  const pairs = new Map(
    summary.comparisons.map((c) => [JSON.stringify([c.model, c.baseline, c.metric]), c]),
  );
  return {
    score: (model, metric) => scores.get(JSON.stringify([model, metric])),
    pair: (model, baseline, metric) => pairs.get(JSON.stringify([model, baseline, metric])),
  };
}

const labelOf = (summary, name) => summary.models.find((m) => m.name === name)?.label ?? name;
const seriesOf = (summary, name) => Math.max(0, summary.models.findIndex((m) => m.name === name)) % 10;

function startOverview(summary) {
  const index = indexScores(summary);
  const select = byId("baseline");
  const known = summary.models.map((model) => model.name);
  const usual = known.includes(summary.baseline) ? summary.baseline : known[0];
  const chosen = known.includes(get("vs")) ? get("vs") : usual;
  refill(select, summary.models.map((model) => option(model.name, model.label, chosen)));
  select.addEventListener("change", () => {
    set({ vs: select.value }, { vs: usual });
    drawTable(summary, index, select.value);
  });
  drawTable(summary, index, chosen);
  drawBars(summary, index);
}

function drawTable(summary, index, baseline) {
  byId("scores-intro").textContent = t("overview.table_intro", {
    baseline: labelOf(summary, baseline),
    level: Math.round(100 * summary.confidence),
  });
  const head = el(
    "tr",
    {},
    el("th", { scope: "col", class: "sticky" }, t("overview.model")),
    summary.metrics.map((metric) => el("th", { scope: "col", class: "num" }, metricHead(metric))),
  );
  const rows = summary.models.map((model) =>
    el(
      "tr",
      { class: model.name === baseline ? "baseline" : null },
      el(
        "th",
        { scope: "row", class: "sticky" },
        el("span", { class: `dot-label s${seriesOf(summary, model.name)}`, "aria-hidden": "true" }),
        el("bdi", {}, model.label),
        model.name === baseline ? el("span", { class: "tag" }, t("overview.is_baseline")) : null,
      ),
      summary.metrics.map((metric) => scoreCell(summary, index, metric, model.name, baseline)),
    ),
  );
  refill(byId("scores-table"), el("table", { class: "scores" }, el("thead", {}, head), el("tbody", {}, rows)));
}

function directionOf(metric) {
  if (!metric.tested) return t("overview.untested");
  return metric.higher_is_better ? t("overview.higher") : t("overview.lower");
}

function metricHead(metric) {
  const direction = directionOf(metric);
  const arrow = metric.higher_is_better ? " ↑" : " ↓";
  const button = el(
    "button",
    { type: "button", class: "term" },
    metric.label,
    metric.tested
      ? el("span", { class: "direction", "aria-hidden": "true" }, arrow)
      : el("span", { class: "tag" }, t("overview.untested_tag")),
  );
  return withTip(button, () => [
    el("strong", {}, metric.label),
    el("span", { class: "quiet" }, ` ${direction}`),
    el("p", {}, metric.description),
    metric.signature ? el("code", { class: "signature" }, metric.signature) : null,
  ]);
}

function metricScale(summary, index, metric) {
  return summary.models.map((model) => index.score(model.name, metric.name)?.value).filter(isNumber);
}

function bestValue(summary, index, metric) {
  const values = metricScale(summary, index, metric);
  if (values.length < 2 || !metric.tested) return null;
  return metric.higher_is_better ? Math.max(...values) : Math.min(...values);
}

// Whether the models are scored on different prompts, so that each needs its number beside it.
const isUneven = (summary, metric) => (summary.coverage ?? []).some((item) => item.metric === metric.name);

function scoreCell(summary, index, metric, model, baseline) {
  const score = index.score(model, metric.name);
  if (!score || !isNumber(score.value)) {
    return el("td", { class: "num missing" }, el("span", { title: t("overview.not_measured") }, "–"));
  }
  const scale = metricScale(summary, index, metric);
  const best = score.value === bestValue(summary, index, metric);
  return el(
    "td",
    { class: best ? "num best" : "num" },
    el("span", { class: "value" }, metricNumber(metric, score.value, scale), el("span", { class: "unit" }, unitOf(metric))),
    el("span", { class: "interval" }, interval(metric, score.low, score.high, scale)),
    isUneven(summary, metric) ? el("span", { class: "interval" }, t("overview.n", { n: whole(score.n) })) : null,
    model === baseline || !metric.tested ? null : pairMark(summary, index, metric, model, baseline),
  );
}

function pairMark(summary, index, metric, model, baseline) {
  const pair = index.pair(model, baseline, metric.name);
  const differences = summary.models.map(
    (other) => index.pair(other.name, baseline, metric.name)?.difference,
  );
  if (!pair || !isNumber(pair.difference)) {
    return el("span", { class: "mark tie", title: t("mark.none") }, "·");
  }
  const difference = signedNumber(metric, pair.difference, differences);
  const detail = t("mark.detail", {
    model: labelOf(summary, model),
    baseline: labelOf(summary, baseline),
    text: t(`mark.${pair.verdict}`, { difference }),
    interval: interval(metric, pair.low, pair.high, differences),
    p: pValue(pair.p_value),
    n: whole(pair.n),
  });
  return el(
    "span",
    { class: `mark ${pair.verdict}`, title: detail },
    el("span", { "aria-hidden": "true" }, `${MARKS[pair.verdict]} ${difference}`),
    el("span", { class: "visually-hidden" }, detail),
  );
}

function drawBars(summary, index) {
  const cards = summary.metrics.map((metric) => {
    const scale = metricScale(summary, index, metric);
    const rows = summary.models.map((model) => {
      const score = index.score(model.name, metric.name) ?? {};
      return {
        label: model.label,
        value: score.value,
        low: score.low,
        high: score.high,
        series: seriesOf(summary, model.name),
        title: `${interval(metric, score.low, score.high, scale)} ${isNumber(score.n) ? t("overview.n", { n: whole(score.n) }) : ""}`.trim(),
      };
    });
    const shares = metric.format === "percent" && scale.every((value) => value >= 0 && value <= 1);
    return el(
      "figure",
      { class: "card" },
      el(
        "figcaption",
        {},
        el("span", { class: "chart-title" }, metric.label),
        el("span", { class: "quiet" }, directionOf(metric)),
      ),
      barChart(rows, (value) => metricNumber(metric, value, scale) + unitOf(metric), {
        tick: (value) => axisNumber(metric, value),
        from: shares ? 0 : null,
      }),
    );
  });
  refill(byId("bars-cards"), cards);
}
