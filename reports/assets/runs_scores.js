// Scores of models of the same name in several runs: a table with marks against one run, and
// points over the runs.

function startRunScores(core) {
  const view = byId("scores-view");
  if (!view) return;
  const targets = core.targets.filter((target) => target.kind === "score");
  const models = [...new Map(targets.map((target) => [target.model, target.modelLabel]))];
  const many = models.length * core.runs.length > 24;
  const usual = many ? models.at(-1)[0] : "*";
  const references = core.runs.map((_, i) => i).filter((i) => core.comparisons.some((pair) => pair.reference === i));
  const table = el("div", { class: "scroll", id: "run-scores", tabindex: 0, role: "region", "aria-label": t("section.runs_scores") });
  const charts = el("div", { class: "cards charts", id: "run-trends" });
  const intro = el("p", { class: "intro" });
  const wide = (value) => (value === "*" || models.some(([name]) => name === value) ? value : usual);
  const chosen = { model: wide(get("model", usual)), reference: 0, order: get("order") === "time" ? "time" : "named" };
  chosen.reference = references.includes(Number(get("ref", "0"))) ? Number(get("ref", "0")) : (references[0] ?? 0);
  const draw = () => {
    const shown = chosen.model === "*" ? models : models.filter(([name]) => name === chosen.model);
    intro.textContent = t("runs.scores_intro", { level: Math.round(100 * core.confidence), run: core.runs[chosen.reference].label });
    refill(table, runScoreTable(core, targets, shown, chosen.reference));
    refill(charts, trendCharts(core, targets, shown, runOrder(core.runs, chosen.order)));
  };
  refill(
    view,
    intro,
    el(
      "div",
      { class: "fields runs-fields" },
      models.length > 1
        ? field(t("runs.model"), [["*", t("runs.all_models")], ...models], chosen.model, (value) => {
            chosen.model = value;
            set({ model: value }, { model: usual });
            draw();
          }, { name: "model" })
        : null,
      references.length > 1
        ? field(t("runs.reference"), references.map((i) => [String(i), core.runs[i].label]), String(chosen.reference), (value) => {
            chosen.reference = Number(value);
            set({ ref: value }, { ref: "0" });
            draw();
          }, { name: "ref" })
        : null,
    ),
    table,
    scoreLegend(),
    el(
      "div",
      { class: "block" },
      el(
        "div",
        { class: "block-head" },
        el("h3", {}, t("runs.trend")),
        field(t("runs.order"), [["named", t("runs.order_named")], ["time", t("runs.order_time")]], chosen.order, (value) => {
          chosen.order = value;
          set({ order: value }, { order: "named" });
          draw();
        }, { name: "order" }),
      ),
      el("p", { class: "intro" }, t("runs.trend_intro", { level: Math.round(100 * core.confidence) })),
      charts,
    ),
  );
  draw();
}

// Places of the runs: as named, or the one that finished first in front (unfinished ones last).
function runOrder(runs, order) {
  const places = runs.map((_, i) => i);
  if (order !== "time") return places;
  const key = (i) => runs[i].finished || "9999";
  return places.sort((a, b) => (key(a) < key(b) ? -1 : key(a) > key(b) ? 1 : a - b));
}

function scoreLegend() {
  return el(
    "p",
    { class: "legend" },
    el("span", { class: "mark better" }, `▲ ${t("overview.legend_better")}`),
    el("span", { class: "mark worse" }, `▼ ${t("overview.legend_worse")}`),
    el("span", { class: "mark tie" }, `≈ ${t("overview.legend_tie")}`),
    el("span", {}, t("overview.legend_best")),
  );
}

function metricsOf(targets) {
  return [...new Map(targets.map((target) => [target.metric.name, target.metric])).values()];
}

function runScoreTable(core, targets, models, reference) {
  const metrics = metricsOf(targets.filter((target) => models.some(([name]) => name === target.model)));
  const by = new Map(targets.map((target) => [JSON.stringify([target.model, target.metric.name]), target]));
  return el(
    "table",
    { class: "scores run-scores" },
    el(
      "thead",
      {},
      el(
        "tr",
        {},
        el("th", { scope: "col", class: "model-head" }, t("runs.model")),
        el("th", { scope: "col", class: "sticky" }, t("runs.run")),
        metrics.map((metric) => el("th", { scope: "col", class: "num" }, runMetricHead(metric))),
      ),
    ),
    models.map(([model, label]) =>
      el(
        "tbody",
        {},
        core.runs.map((_, run) =>
          el(
            "tr",
            { class: run === reference ? "baseline" : null },
            run === 0 ? el("th", { scope: "rowgroup", rowspan: core.runs.length, class: "model-head" }, el("bdi", {}, label)) : null,
            el(
              "th",
              { scope: "row", class: "sticky" },
              runName(core, run),
              run === reference ? el("span", { class: "tag" }, t("runs.is_reference")) : null,
            ),
            metrics.map((metric) => runScoreCell(core, by.get(JSON.stringify([model, metric.name])), run, reference)),
          ),
        ),
      ),
    ),
  );
}

function runMetricHead(metric) {
  const direction = metric.tested ? t(metric.higher_is_better ? "overview.higher" : "overview.lower") : t("overview.untested");
  const button = el(
    "button",
    { type: "button", class: "term" },
    metric.label,
    metric.tested
      ? el("span", { class: "direction", "aria-hidden": "true" }, metric.higher_is_better ? " ↑" : " ↓")
      : el("span", { class: "tag" }, t("overview.untested_tag")),
  );
  return withTip(button, () => [
    el("strong", {}, metric.label),
    el("span", { class: "quiet" }, ` ${direction}`),
    el("p", {}, metric.description),
    metric.signature ? el("code", { class: "signature" }, metric.signature) : null,
  ]);
}

function runScoreCell(core, target, run, reference) {
  const score = target?.values[run];
  if (!score) return el("td", { class: "num missing" }, el("span", { title: t("overview.not_measured") }, "–"));
  const metric = target.metric;
  const scale = target.values.filter(Boolean).map((value) => value.value);
  const best = metric.higher_is_better ? Math.max(...scale) : Math.min(...scale);
  return el(
    "td",
    { class: metric.tested && new Set(scale).size > 1 && score.value === best ? "num best" : "num" },
    el("span", { class: "value" }, metricNumber(metric, score.value, scale), el("span", { class: "unit" }, unitOf(metric))),
    el("span", { class: "interval" }, interval(metric, score.low, score.high, scale)),
    run === reference || !metric.tested ? null : runMark(core, target, run, reference),
  );
}

function runMark(core, target, run, reference) {
  const pairs = core.comparisons.filter((pair) => pair.target === target.name && pair.reference === reference);
  const pair = pairs.find((one) => one.run === run);
  const first = target.values[reference];
  if (!pair) {
    if (!first) return null;
    const difference = target.values[run].value - first.value;
    return el("span", { class: "mark tie", title: t("runs.untested_pair") }, signedNumber(target.metric, difference, [difference]));
  }
  const scale = pairs.map((one) => one.difference);
  const difference = signedNumber(target.metric, pair.difference, scale);
  const detail = t("runs.pair_detail", {
    run: core.runs[run].label,
    reference: core.runs[reference].label,
    text: t(`mark.${pair.verdict}`, { difference }),
    interval: interval(target.metric, pair.low, pair.high, scale),
    p: pValue(pair.p_value),
    n: whole(pair.n),
    test: t(`runs.test_${pair.how}`),
  });
  const signs = { better: "▲", worse: "▼", tie: "≈" };
  return el(
    "span",
    { class: `mark ${pair.verdict}`, title: detail },
    el("span", { "aria-hidden": "true" }, `${signs[pair.verdict]} ${difference}`),
    el("span", { class: "visually-hidden" }, detail),
  );
}

function trendCharts(core, targets, models, order) {
  return metricsOf(targets).map((metric) => {
    const own = models
      .map(([name], place) => ({ place, target: targets.find((one) => one.model === name && one.metric.name === metric.name) }))
      .filter(({ target }) => target);
    return own.length
      ? pointsChart({
          title: metric.label,
          aside: metric.tested ? t(metric.higher_is_better ? "overview.higher" : "overview.lower") : "",
          metric,
          xs: order.map((run) => ({ label: core.runs[run].label, short: String(run + 1), at: null })),
          series: own.map(({ target, place }) => ({
            label: target.modelLabel,
            series: seriesAt(place),
            joined: core.runs.length > 2,
            points: order.map((run, x) => scorePoint(core, target, run, x)),
          })),
        })
      : null;
  });
}

function scorePoint(core, target, run, x) {
  const score = target.values[run];
  if (!score) return { x, y: null };
  const text = metricNumber(target.metric, score.value) + unitOf(target.metric);
  return {
    x,
    y: score.value,
    low: score.low,
    high: score.high,
    title: `${core.runs[run].label} · ${target.modelLabel}: ${text} ${interval(target.metric, score.low, score.high)}`,
  };
}
