// What the charts of the overview share: scores and comparisons by name, the chosen baseline, and
// the families of metrics that are shown.

const MARKS = { better: "▲", worse: "▼", tie: "≈" };
// With fewer metrics than this there is nothing to choose between.
const MANY_METRICS = 7;

// The records of a table that is stored as keys and rows.
function recordsOf(table) {
  return table.rows.map((row) => Object.fromEntries(table.keys.map((key, i) => [key, row[i]])));
}

function indexScores(summary) {
  const keyed = (table, ...keys) =>
    new Map(recordsOf(table).map((one) => [JSON.stringify(keys.map((key) => one[key])), one]));
  const scores = keyed(summary.scores, "model", "metric");
  const pairs = keyed(summary.comparisons, "model", "baseline", "metric");
  return {
    score: (model, metric) => scores.get(JSON.stringify([model, metric])),
    pair: (model, baseline, metric) => pairs.get(JSON.stringify([model, baseline, metric])),
  };
}

// A third of numbers is called `1 low: 4–7` by the evaluation.
function groupLabel(group) {
  const [, third, ends] = /^\d (low|middle|high): (.+)$/.exec(group) ?? [];
  return third ? t(`third.${third}`, { range: ends }) : group;
}

const labelOf = (summary, name) => summary.models.find((m) => m.name === name)?.label ?? name;
const seriesOf = (summary, name) => Math.max(0, summary.models.findIndex((m) => m.name === name)) % 10;

function startOverview(summary) {
  const view = { summary, index: indexScores(summary), baseline: "", metrics: summary.metrics };
  const names = summary.models.map((model) => model.name);
  const usual = names.includes(summary.baseline) ? summary.baseline : names[0];
  const select = byId("baseline");
  const draw = () => {
    view.baseline = select.value;
    view.metrics = shownMetrics(summary);
    drawTable(view);
    drawBars(view);
    drawSlices(view);
    drawDistributions(view);
    showVerdicts(view);
  };
  refill(select, summary.models.map((model) => option(model.name, model.label, names.includes(get("vs")) ? get("vs") : usual)));
  select.addEventListener("change", () => {
    set({ vs: select.value }, { vs: usual });
    draw();
  });
  startFamilies(summary, draw);
  startBars(view);
  startSlices(view);
  startDistributions(view);
  draw();
  drawRubrics(view);
  startLinked();
}

// --- families of metrics --------------------------------------------------------------------------

const familiesOf = (summary) => [...new Set(summary.metrics.map((metric) => metric.family))];
const hiddenFamilies = () => new Set(get("without").split(",").filter(Boolean));

function shownMetrics(summary) {
  const hidden = hiddenFamilies();
  const shown = summary.metrics.filter((metric) => !hidden.has(metric.family));
  return shown.length ? shown : summary.metrics;
}

function startFamilies(summary, draw) {
  const families = familiesOf(summary);
  const box = byId("families");
  box.hidden = families.length < 2 || summary.metrics.length < MANY_METRICS;
  const boxes = families.map((family) =>
    el("input", { type: "checkbox", name: "family", value: family, checked: !hiddenFamilies().has(family) }),
  );
  for (const input of boxes) {
    input.addEventListener("change", () => {
      const hidden = boxes.filter((one) => !one.checked).map((one) => one.value);
      set({ without: hidden.length < boxes.length ? hidden.join(",") : "" });
      draw();
    });
  }
  const count = (family) => summary.metrics.filter((metric) => metric.family === family).length;
  refill(
    box.querySelector("div"),
    boxes.map((input) =>
      el("label", {}, input, el("span", {}, t(`family.${input.value}`), el("span", { class: "quiet" }, ` ${count(input.value)}`))),
    ),
  );
}

// --- metrics ----------------------------------------------------------------------------------------

function directionOf(metric) {
  if (!metric.tested) return t("overview.untested");
  return metric.higher_is_better ? t("overview.higher") : t("overview.lower");
}

// What a metric means, for a tooltip.
function metricTip(metric) {
  return [
    el("strong", {}, metric.label),
    el("span", { class: "quiet" }, ` ${directionOf(metric)}`),
    el("p", {}, metric.description),
    metric.signature ? el("code", { class: "signature" }, metric.signature) : null,
  ];
}

function metricScale({ summary, index }, metric) {
  return summary.models.map((model) => index.score(model.name, metric.name)?.value).filter(isNumber);
}

// The answers of a model beside the baseline's by this metric, the largest difference first; of
// the baseline itself, its lowest scores first. Null where answers have no score.
function metricAnswers({ baseline }, metric, model, more = {}) {
  if (!metric.rows) return null;
  if (model === baseline) return { b: model, metric: metric.name, mode: "all", sort: "low", ...more };
  return { a: baseline, b: model, metric: metric.name, mode: "all", sort: "gap", ...more };
}

// A pair in words: better by 0.41 [0.32, 0.50], p < 0.001, and how many answers stand behind it.
function pairTip({ summary, index, baseline }, metric, model) {
  const pair = index.pair(model, baseline, metric.name);
  const names = { model: labelOf(summary, model), baseline: labelOf(summary, baseline) };
  const lines = [el("strong", {}, model === baseline ? names.model : t("mark.pair", names)), el("p", {}, metric.label)];
  const score = index.score(model, metric.name);
  if (score) lines.push(el("p", { class: "quiet" }, t("mark.score", { interval: interval(metric, score.low, score.high, [score.value]) || "–", n: whole(score.n) })));
  if (model === baseline) return lines;
  if (!metric.tested) return [...lines, el("p", {}, t("overview.untested"))];
  if (!pair || !isNumber(pair.difference)) return [...lines, el("p", {}, t("mark.none"))];
  lines.push(el("p", {}, pairDetail(metric, pair)));
  if (isNumber(pair.wins)) {
    lines.push(el("p", { class: "quiet" }, t("mark.rows", { wins: whole(pair.wins), ties: whole(pair.ties), losses: whole(pair.losses) })));
  }
  if (pair.verdict === "tie" && isNumber(pair.detectable)) {
    const size = metricNumber(metric, pair.detectable, [pair.detectable]) + pointsOf(metric);
    lines.push(el("p", { class: "quiet" }, t("mark.detectable", { size, power: Math.round(100 * (summary.power ?? 0.8)) })));
  }
  return lines;
}

const pointsOf = (metric) => (metric.format === "percent" ? ` ${t("mark.points")}` : "");

function pairDetail(metric, pair) {
  const scale = [pair.difference, pair.low, pair.high];
  return t("mark.detail", {
    text: t(`mark.${pair.verdict}`, { difference: signedNumber(metric, pair.difference, scale) + pointsOf(metric) }),
    interval: interval(metric, pair.low, pair.high, scale),
    p: pValue(pair.p_value),
    n: whole(pair.n),
  });
}

// --- verdicts ---------------------------------------------------------------------------------------

// Sentences about the chosen baseline stand first, the others behind the fold.
function showVerdicts({ baseline }) {
  const box = byId("verdicts");
  const fold = byId("more-verdicts");
  if (!box || !fold) return;
  bringIn(fold);
  const items = [...box.querySelectorAll("li")].sort((x, y) => x.dataset.place - y.dataset.place);
  const own = items.filter((item) => [item.dataset.model, item.dataset.against].includes(baseline));
  const first = own.length ? own : items;
  const rest = items.filter((item) => !first.includes(item));
  refill(box.querySelector("ul"), first);
  refill(fold.querySelector("ul"), rest);
  fold.hidden = !rest.length;
  fold.querySelector("summary").textContent = t("overview.more_verdicts", { count: rest.length });
}
