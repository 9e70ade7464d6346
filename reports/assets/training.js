// Curves, reward accuracy, alarms and sample generations of each training stage.

const SMOOTHING = ["", "0", "0.02", "0.05", "0.1", "0.2"];

function startTraining(curves) {
  const root = byId("training-stages");
  if (!root) return;
  const view = curveView();
  const groups = [];
  const stages = curves.map((stage) => trainingStage(stage, view, groups));
  const redraw = () => {
    Object.assign(view, curveView());
    for (const one of groups.flat()) one.redraw();
  };
  refill(root, curves.some((stage) => stage.charts.length) ? curveControls(redraw) : null, stages);
}

// How the reader wants curves drawn, from the address: { share, log }.
function curveView() {
  const share = get("curve.smooth");
  return { share: share === "" || !SMOOTHING.includes(share) ? null : Number(share), log: get("curve.scale") === "log" };
}

function curveControls(redraw) {
  const { share, log } = curveView();
  const label = (value) => {
    if (value === "") return t("training.smooth_auto");
    return value === "0" ? t("training.smooth_none") : t("training.smooth_share", { percent: whole(100 * value) });
  };
  const change = (key) => (value) => {
    set({ [key]: value });
    redraw();
  };
  return el(
    "div",
    { class: "fields curve-controls" },
    field(t("training.smoothing"), SMOOTHING.map((value) => [value, label(value)]), share === null ? "" : String(share), change("curve.smooth"), { id: "curve-smooth" }),
    field(t("training.scale"), [["", t("training.linear_scale")], ["log", t("training.log_scale")]], log ? "log" : "", change("curve.scale"), { id: "curve-scale" }),
  );
}

function trainingStage(stage, view, groups) {
  const group = [];
  groups.push(group);
  const draw = (charts) => el("div", { class: "cards charts" }, charts.map((chart) => lineChart(chart, view, group)));
  const major = stage.charts.filter((chart) => !chart.minor);
  const minor = stage.charts.filter((chart) => chart.minor);
  return el(
    "div",
    { class: "block" },
    el("h3", {}, stage.label),
    stage.alarms.map((alarm) => alarmNotice(alarm, group)),
    major.length ? draw(major) : null,
    stage.charts.some((chart) => chart.series.some((item) => smoothed(item.y)))
      ? el("p", { class: "quiet" }, t("training.thick"))
      : null,
    minor.length ? el("details", { class: "more" }, el("summary", {}, t("training.more")), draw(minor)) : null,
    stage.accuracy.length ? accuracyCard(stage.accuracy) : null,
    rewardCards(stage),
    stage.samples.length ? sampleList(stage.samples) : null,
  );
}

// An alarm in words, with the way to where it fired on the curve.
function alarmNotice(alarm, group) {
  const show = () => {
    const one = group.find(({ chart }) => chart.key === alarm.chart);
    bringIn(one.figure);
    const hidden = one.figure.closest("details:not([open])");
    if (hidden) hidden.open = true;
    one.figure.scrollIntoView({ block: "center" });
    // A chart that was hidden is drawn when its place is known.
    requestAnimationFrame(() => requestAnimationFrame(() => {
      one.root?.focus({ preventScroll: true });
      for (const other of group) other.show(alarm.first);
    }));
  };
  return el(
    "p",
    { class: "notice warning alarm-notice" },
    el("strong", {}, t("notice.kind_warning")),
    " ",
    el("span", {}, t("training.alarm", { message: alarm.message, count: whole(alarm.count), step: alarm.first })),
    " ",
    alarm.chart ? el("button", { type: "button", class: "link", on: { click: show } }, t("training.show_alarm")) : null,
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
  const details = el("details", { class: "more" }, el("summary", {}, t("training.samples")), el("p", { class: "quiet" }, t("training.samples_intro")), list);
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
      : el("p", { class: "text reference", dir: "auto" }, el("span", { class: "quiet" }, t("training.reference"), " "), sample.reference),
    el(
      "table",
      { class: "sample-steps" },
      el(
        "tbody",
        {},
        sample.answers.map((answer, i) =>
          el(
            "tr",
            {},
            el("th", { scope: "row", class: "num" }, t("training.step", { step: answer.step })),
            el("td", { class: "text", dir: "auto" }, answer.text ? changedText(sample.answers[i - 1], answer) : el("em", { class: "quiet" }, t("training.empty"))),
            el("td", { class: "num quiet" }, isNumber(answer.score) ? compact(answer.score) : ""),
          ),
        ),
      ),
    ),
  );
}

// What the answer says that the one before did not is marked.
function changedText(before, answer) {
  if (!before || before.text === answer.text) return answer.text;
  return textDiff(before.text, answer.text)
    .filter(({ kind }) => kind !== "del")
    .map(({ kind, text }) => (kind === "ins" ? el("ins", {}, text) : text));
}
