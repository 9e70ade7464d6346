// The scores as bars with whiskers, or the differences from the baseline as dots with theirs.

// More cards than these stand behind a button.
const FEW_CARDS = 12;

function startBars(view) {
  const choice = get("bars") === "differences" && view.summary.models.length > 1 ? "differences" : "scores";
  segments(byId("bars-kind"), "bars", [["scores", t("overview.bars_scores")], ["differences", t("overview.bars_differences")]], choice, () => drawBars(view));
  byId("bars-kind").hidden = view.summary.models.length < 2;
}

// Radio buttons side by side inside a fieldset; the choice is kept in the address under `key`.
function segments(fieldset, key, choices, chosen, onChange) {
  const inputs = choices.map(([value, label]) => {
    const input = el("input", { type: "radio", name: key, value, checked: value === chosen });
    input.addEventListener("change", () => {
      set({ [key]: value }, { [key]: choices[0][0] });
      onChange(value);
    });
    return el("label", {}, input, el("span", {}, label));
  });
  refill(fieldset.querySelector("div"), inputs);
}

function drawBars(view) {
  const { summary, baseline } = view;
  const differences = get("bars") === "differences" && summary.models.length > 1;
  byId("bars-intro").textContent = t(differences ? "overview.differences_intro" : "overview.bars_intro", {
    level: Math.round(100 * summary.confidence),
    baseline: labelOf(summary, baseline),
  });
  const metrics = differences ? view.metrics.filter((metric) => metric.tested) : view.metrics;
  const all = metrics.length <= FEW_CARDS || get("cards") === "all";
  const shown = all ? metrics : metrics.slice(0, FEW_CARDS);
  const cards = shown.map((metric) => (differences ? differenceCard(view, metric) : scoreCard(view, metric)));
  refill(byId("bars-cards"), cards);
  const more = byId("bars-more");
  more.hidden = all;
  more.textContent = t("overview.more_cards", { count: metrics.length });
  more.onclick = () => {
    set({ cards: "all" });
    drawBars(view);
    byId("bars-cards").children[FEW_CARDS].querySelector("button")?.focus();
  };
}

function scoreCard(view, metric) {
  const { summary, index } = view;
  const scale = metricScale(view, metric);
  const rows = summary.models.map((model) => {
    const score = index.score(model.name, metric.name) ?? {};
    const between = interval(metric, score.low, score.high, scale);
    return {
      label: model.label,
      value: score.value,
      low: score.low,
      high: score.high,
      kind: `fill s${seriesOf(summary, model.name)}`,
      title: `${between} ${isNumber(score.n) ? t("overview.n", { n: whole(score.n) }) : ""}`.trim(),
      opens: isNumber(score.value) ? metricAnswers(view, metric, model.name) : null,
    };
  });
  const shares = metric.format === "percent" && scale.every((value) => value >= 0 && value <= 1);
  return barCard(metric, rows, (value) => metricNumber(metric, value, scale) + unitOf(metric), {
    tick: (value) => axisNumber(metric, value),
    from: shares ? 0 : null,
  });
}

function differenceCard(view, metric) {
  const { summary, index, baseline } = view;
  const others = summary.models.filter((model) => model.name !== baseline);
  const found = others.map((model) => index.pair(model.name, baseline, metric.name) ?? {});
  const scale = found.flatMap((pair) => [pair.difference, pair.low, pair.high]).filter(isNumber);
  const rows = others.map((model, i) => ({
    label: model.label,
    value: found[i].difference,
    low: found[i].low,
    high: found[i].high,
    kind: `dot ${found[i].verdict ?? "tie"}`,
    mark: MARKS[found[i].verdict],
    title: isNumber(found[i].difference) ? pairDetail(metric, found[i]) : t("mark.none"),
    opens: isNumber(found[i].difference) ? metricAnswers(view, metric, model.name) : null,
  }));
  const factor = metric.format === "percent" ? 100 : 1;
  return barCard(metric, rows, (value) => signedNumber(metric, value, scale), {
    tick: (value) => compact(factor * value),
    reference: 0,
    dots: true,
  });
}

function barCard(metric, rows, show, options) {
  const arrow = metric.tested ? (metric.higher_is_better ? "↑" : "↓") : null;
  return el(
    "figure",
    { class: "card" },
    el(
      "figcaption",
      {},
      el(
        "span",
        { class: "chart-title" },
        metric.label,
        arrow ? el("span", { class: "direction", "aria-hidden": "true" }, ` ${arrow}`) : null,
        el("span", { class: "visually-hidden" }, ` ${directionOf(metric)}`),
        arrow ? null : el("span", { class: "tag", "aria-hidden": "true" }, t("overview.untested_tag")),
      ),
      options.dots && metric.format === "percent" ? el("span", { class: "quiet" }, t("mark.points")) : null,
    ),
    barChart(rows, show, options),
  );
}
