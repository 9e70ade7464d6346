// The table models × metrics: sortable, with a mark against the baseline in each cell, which opens
// the answers behind it.

// A sheet of paper is wide enough for so many metrics side by side.
const PAPER_COLUMNS = 10;

function drawTable(view) {
  const { summary, baseline, metrics } = view;
  byId("scores-intro").textContent = t("overview.table_intro", {
    baseline: labelOf(summary, baseline),
    level: Math.round(100 * summary.confidence),
  });
  const order = chosenOrder(metrics);
  const resort = (name) => {
    const next = { "": "best", best: "worst", worst: "" }[order.metric === name ? order.way : ""];
    set({ order: next ? `${next}.${name}` : "" });
    drawTable(view);
    byId("scores-table").querySelector(`[data-order="${CSS.escape(name)}"]`).focus();
  };
  const head = el(
    "tr",
    {},
    orderHead(order, "", { class: "sticky" }, resort, t("overview.model")),
    metrics.map((metric) => {
      const arrow = metric.higher_is_better ? " ↑" : " ↓";
      const mark = metric.tested
        ? el("span", { class: "direction", "aria-hidden": "true" }, arrow)
        : el("span", { class: "tag" }, t("overview.untested_tag"));
      return orderHead(order, metric.name, { class: "num" }, resort, metric.label, mark, () => [
        metricTip(metric),
        el("p", { class: "quiet" }, t("overview.sort_hint")),
      ]);
    }),
  );
  const rows = orderedModels(view, order).map((model) =>
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
      metrics.map((metric) => scoreCell(view, metric, model.name)),
    ),
  );
  const table = el(
    "table",
    { class: "scores", role: "grid", "aria-label": t("overview.table") },
    el("thead", {}, head),
    el("tbody", {}, rows),
  );
  refill(byId("scores-table"), table);
  startTableGrid(table);
  const wide = metrics.length > PAPER_COLUMNS;
  byId("scores-table").classList.toggle("screen-only", wide);
  refill(byId("scores-paper"), wide ? paperTable(view, order) : null);
}

// The same with a row a metric, for paper.
function paperTable(view, order) {
  const models = orderedModels(view, order);
  return el(
    "table",
    { class: "scores" },
    el(
      "thead",
      {},
      el("tr", {}, el("th", { scope: "col" }, t("overview.slice_metric")), models.map((model) => el("th", { scope: "col", class: "num" }, el("bdi", {}, model.label)))),
    ),
    el(
      "tbody",
      {},
      view.metrics.map((metric) => el("tr", {}, el("th", { scope: "row" }, metric.label), models.map((model) => scoreCell(view, metric, model.name)))),
    ),
  );
}

// --- order ------------------------------------------------------------------------------------------

// Kept in the address as `best.reward` or `worst.reward`; without a metric the models by name.
function chosenOrder(metrics) {
  const [, way, metric] = /^(best|worst)\.(.*)$/s.exec(get("order")) ?? [];
  const known = way && (metric === "" || metrics.some((one) => one.name === metric));
  return known ? { way, metric } : { way: "", metric: null };
}

function orderHead(order, name, attributes, resort, label, mark = null, tip = null) {
  const sorted = order.way && order.metric === name;
  const button = el(
    "button",
    { type: "button", class: tip ? "term sorter" : "sorter", "data-order": name, on: { click: () => resort(name) } },
    label,
    mark,
    sorted ? el("span", { class: "sort-sign", "aria-hidden": "true" }, order.way === "best" ? " ▾" : " ▴") : null,
  );
  const sort = sorted ? (order.way === "best" ? "descending" : "ascending") : "none";
  return el("th", { scope: "col", "aria-sort": sort, ...attributes }, tip ? withTip(button, tip) : button);
}

// Models without the score come last.
function orderedModels({ summary, index }, { way, metric }) {
  if (!way) return summary.models;
  const sign = way === "best" ? 1 : -1;
  if (metric === "") {
    return summary.models.toSorted((x, y) => sign * x.label.localeCompare(y.label, document.documentElement.lang, { numeric: true }));
  }
  const better = summary.metrics.find((one) => one.name === metric).higher_is_better ? sign : -sign;
  const value = (model) => index.score(model.name, metric)?.value;
  const known = summary.models.filter((model) => isNumber(value(model)));
  const rest = summary.models.filter((model) => !isNumber(value(model)));
  return [...known.toSorted((x, y) => better * (value(y) - value(x))), ...rest];
}

// --- cells ------------------------------------------------------------------------------------------

function bestValue(view, metric) {
  const values = metricScale(view, metric);
  if (values.length < 2 || !metric.tested) return null;
  return metric.higher_is_better ? Math.max(...values) : Math.min(...values);
}

function scoreCell(view, metric, model) {
  const { summary, index, baseline } = view;
  const score = index.score(model, metric.name);
  if (!score || !isNumber(score.value)) {
    return el("td", { class: "num missing" }, el("span", { title: t("overview.not_measured") }, "–"));
  }
  const scale = metricScale(view, metric);
  const best = score.value === bestValue(view, metric);
  // Models that are scored on different prompts need their number beside the score.
  const uneven = summary.coverage.includes(metric.name);
  const content = [
    el("span", { class: "value" }, metricNumber(metric, score.value, scale), unitOf(metric) ? el("span", { class: "unit" }, unitOf(metric)) : null),
    el("span", { class: "interval" }, interval(metric, score.low, score.high, scale)),
    uneven ? el("span", { class: "interval" }, t("overview.n", { n: whole(score.n) })) : null,
    model === baseline || !metric.tested ? null : pairMark(view, metric, model),
  ];
  const button = linkedButton(metricAnswers(view, metric, model), { class: "cell" }, content);
  const described = metric.rows ? withTip(button, () => [pairTip(view, metric, model), el("p", { class: "quiet" }, t("overview.cell_hint"))]) : button;
  return el("td", { class: best ? "num best" : "num" }, described);
}

function pairMark({ summary, index, baseline }, metric, model) {
  const pair = index.pair(model, baseline, metric.name);
  const differences = summary.models.map((other) => index.pair(other.name, baseline, metric.name)?.difference);
  if (!pair || !isNumber(pair.difference)) {
    return el("span", { class: "mark tie", title: t("mark.none") }, "·");
  }
  return el(
    "span",
    { class: `mark ${pair.verdict}` },
    el("span", { "aria-hidden": "true" }, `${MARKS[pair.verdict]} ${signedNumber(metric, pair.difference, differences)}`),
    el("span", { class: "visually-hidden" }, pairDetail(metric, pair)),
  );
}
