// Curves, reward accuracy, alarms and sample generations of each training stage.

function startTraining(curves) {
  const root = byId("training-stages");
  if (!root) return;
  refill(root, curves.map(trainingStage));
}

function trainingStage(stage) {
  const major = stage.charts.filter((chart) => !chart.minor);
  const minor = stage.charts.filter((chart) => chart.minor);
  return el(
    "div",
    { class: "block" },
    el("h3", {}, stage.label),
    stage.alarms.map((alarm) =>
      el(
        "p",
        { class: "notice warning" },
        el("strong", {}, t("notice.kind_warning")),
        " ",
        el("span", {}, t("training.alarm", { message: alarm.message, count: whole(alarm.count), step: alarm.first })),
      ),
    ),
    major.length ? el("div", { class: "cards charts" }, major.map(lineChart)) : null,
    stage.charts.some((chart) => chart.series.some((item) => smoothed(item)))
      ? el("p", { class: "quiet" }, t("training.thick"))
      : null,
    minor.length
      ? el(
          "details",
          { class: "more" },
          el("summary", {}, t("training.more")),
          el("div", { class: "cards charts" }, minor.map(lineChart)),
        )
      : null,
    stage.accuracy.length ? accuracyCard(stage.accuracy) : null,
    rewardCards(stage),
    stage.samples.length ? sampleList(stage.samples) : null,
  );
}

function accuracyCard(bars) {
  const share = { format: "percent" };
  const rows = bars.map((bar, i) => ({
    ...bar,
    label: isNumber(bar.n) ? `${bar.label} (${t("overview.n", { n: whole(bar.n) })})` : bar.label,
    series: i ? 2 : 3,
    title: interval(share, bar.low, bar.high),
  }));
  return el(
    "figure",
    { class: "card wide" },
    el(
      "figcaption",
      {},
      el("span", { class: "chart-title" }, t("training.accuracy")),
      el("span", { class: "quiet" }, t("training.accuracy_intro")),
    ),
    barChart(rows, (value) => `${metricNumber(share, value)} %`, {
      from: 0,
      to: 1,
      reference: 0.5,
    }),
  );
}

function sampleList(samples) {
  const list = el("div", { class: "samples" });
  const details = el("details", { class: "more" }, el("summary", {}, t("training.samples")), list);
  details.addEventListener("toggle", () => {
    if (details.open && !list.childElementCount) refill(list, samples.map(sampleCard));
  });
  return details;
}

function sampleCard(sample) {
  return el(
    "div",
    { class: "card" },
    el("p", { class: "text prompt", dir: "auto" }, sample.prompt),
    sample.reference === null
      ? null
      : el("p", { class: "text reference", dir: "auto" }, el("span", { class: "quiet" }, t("answers.reference"), " "), sample.reference),
    el(
      "table",
      { class: "sample-steps" },
      el(
        "tbody",
        {},
        sample.answers.map((answer) =>
          el(
            "tr",
            {},
            el("th", { scope: "row", class: "num" }, t("training.step", { step: answer.step })),
            el("td", { class: "text", dir: "auto" }, answer.text || el("em", { class: "quiet" }, t("answers.empty"))),
            el("td", { class: "num quiet" }, isNumber(answer.score) ? compact(answer.score) : ""),
          ),
        ),
      ),
    ),
  );
}
