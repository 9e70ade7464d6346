// The answer of a sweep: the chart over levels, the effects with their intervals, the trends.

const EFFECT_SIGNS = { better: "▲ ", worse: "▼ ", higher: "◆ ", lower: "◆ ", tie: "≈ " };

function startAnswer(core) {
  const view = byId("answer-view");
  const { answer } = core;
  if (!view || !answer) return;
  const chart = answer.kind === "draws" ? null : answerChart(core, answer);
  const effects = answer.groups.some((group) => group.effect?.mean) ? effectsOf(core, answer) : null;
  const trends = answer.trends.some((trend) => trend.effect.mean) ? trendsOf(answer) : null;
  refill(
    view,
    el("div", { class: chart && effects ? "answer-pair" : "" }, chart, effects),
    trends,
    core.others.length ? othersOf(core.others) : null,
  );
}

const answerTitle = (answer) =>
  answer.model ? t("sweep.subject", { model: answer.model, metric: answer.metric.label }) : answer.metric.label;

function answerChart(core, answer) {
  const known = answer.groups.map((group, x) => ({ group, x })).filter(({ group }) => group.mean);
  if (!known.length) return null;
  const joined = answer.groups.length > 1 && answer.groups.every((group) => isNumber(group.number));
  const repeated = known.some(({ group }) => isNumber(group.mean.low));
  const several = known.some(({ group }) => group.runs.length > 1);
  const note = !several ? "sweep.chart_note_once" : joined && repeated ? "sweep.chart_note" : "sweep.chart_note_points";
  const title = answerTitle(answer);
  return levelsChart({
    title: answer.factor && answer.groups.length > 1 ? t("sweep.chart", { target: title, factor: answer.factor }) : title,
    note: t(note, { level: Math.round(100 * core.confidence) }),
    metric: answer.metric,
    joined,
    log: joined && answer.trends.some((trend) => trend.unit === "doubling"),
    xs: answer.groups.map((group) => ({ label: group.label, at: joined ? group.number : null })),
    means: known.map(({ group, x }) => ({
      x,
      y: group.mean.value,
      low: group.mean.low,
      high: group.mean.high,
      title: `${group.label}: ${valueText(answer.metric, group.mean.value, group.mean.low, group.mean.high)} (n = ${group.mean.n})`,
    })),
    runs: several
      ? known.flatMap(({ group, x }) =>
          group.runs.map((run) => ({ x, y: run.value, title: `${core.runs[run.run].label}: ${valueText(answer.metric, run.value)}` })),
        )
      : [],
  });
}

// One scale for all bars: the zero, every difference and the ends of its interval.
function effectScale(effects) {
  const ends = effects.flatMap(({ mean }) => (mean ? [mean.value, mean.low, mean.high] : [])).filter(isNumber);
  let [low, high] = [Math.min(0, ...ends), Math.max(0, ...ends)];
  if (!(high > low)) [low, high] = [-1, 1];
  const room = 0.05 * (high - low);
  [low, high] = [low - room, high + room];
  const at = (value) => (100 * (value - low)) / (high - low);
  return { at, percent: (value) => `${Math.min(100, Math.max(0, at(value)))}%` };
}

function effectBar(effect, scale) {
  if (!effect?.mean) return null;
  const { value, low, high } = effect.mean;
  const side = { better: "better", worse: "worse" }[effect.verdict] ?? "tie";
  return barSvg({ value, low, high, kind: `dot ${side}` }, scale.percent, scale.at, [], 0, true);
}

// Where all effects rest on the same repeats, they are told once, beside the heading.
function commonBasis(effects) {
  const found = new Set(effects.filter((effect) => effect?.mean).map((effect) => t(`runs.how_sweep_${effect.how}`, { n: effect.mean.n })));
  return found.size === 1 ? [...found][0] : null;
}

function heads(columns) {
  return el(
    "thead",
    {},
    el(
      "tr",
      {},
      columns.filter(Boolean).map(([text, kind, about]) =>
        el("th", { scope: "col", class: kind ?? null }, about ? withTip(el("button", { type: "button", class: "term" }, text), () => about) : text),
      ),
    ),
  );
}

function effectsOf(core, answer) {
  const { metric } = answer;
  const reference = answer.groups[answer.reference].label;
  const scale = effectScale(answer.groups.map((group) => group.effect).filter(Boolean));
  const values = answer.groups.flatMap(({ mean }) => (mean ? [mean.value, mean.low, mean.high] : [])).filter(isNumber);
  const changes = answer.groups.flatMap(({ effect }) => (effect?.mean ? [effect.mean.value, effect.mean.low, effect.mean.high] : [])).filter(isNumber);
  const basis = commonBasis(answer.groups.map((group) => group.effect));
  const rows = answer.groups.map((group, place) =>
    el(
      "tr",
      { class: place === answer.reference ? "baseline" : null },
      el("th", { scope: "row", class: "sticky" }, el("bdi", {}, group.label)),
      numberCell(group.mean && `${metricNumber(metric, group.mean.value, values)}${unitOf(metric)}`, interval(metric, group.mean?.low, group.mean?.high, values)),
      place === answer.reference
        ? el("td", { class: "quiet", colspan: basis ? 5 : 6 }, t("sweep.is_reference"))
        : effectCells(metric, group.effect, scale, changes, basis),
    ),
  );
  const from = el("span", { class: "visually-hidden" }, t("sweep.column_from", { reference }));
  const columns = [[answer.factor || t("sweep.model")], [t("sweep.column_mean"), "num"], ...effectColumns(metric, from, basis)];
  return el(
    "div",
    { class: "answer-effects" },
    basisHeading(t("sweep.table"), basis),
    effectTable("answer-effects", t("sweep.table"), columns, el("tbody", {}, rows)),
  );
}

// A number with its interval below it.
function numberCell(text, between) {
  return el("td", { class: "num" }, text ?? "–", between ? el("span", { class: "below quiet" }, ` ${between}`) : null);
}

function effectCells(metric, effect, scale, changes, basis) {
  if (!effect?.mean) return el("td", { class: "quiet", colspan: basis ? 5 : 6 }, effect ? t(`runs.how_sweep_${effect.how}`, { n: 0 }) : "–");
  const { mean } = effect;
  return [
    numberCell(signedNumber(metric, mean.value, changes), interval(metric, mean.low, mean.high, changes)),
    el("td", { class: "bar-column" }, effectBar(effect, scale)),
    el("td", {}, verdictMark(effect)),
    el("td", { class: "num" }, pValue(effect.p)),
    el("td", { class: "num" }, isNumber(effect.detectable) ? metricNumber(metric, effect.detectable, changes) : "–"),
    basis ? null : el("td", { class: "quiet" }, t(`runs.how_sweep_${effect.how}`, { n: mean.n })),
  ];
}

// The heads of what `effectCells` fills; `from` stands above the bars.
function effectColumns(metric, from, basis) {
  const unit = metric.format === "percent" ? ` (${t("mark.points")})` : "";
  return [
    [`${t("sweep.column_difference")}${unit}`, "num"],
    [from, "bar-column"],
    [t("runs.effect_verdict")],
    [t("runs.effect_p"), "num"],
    [t("sweep.column_smallest"), "num", t("sweep.column_smallest_about")],
    basis ? null : [t("sweep.column_runs")],
  ];
}

function basisHeading(title, basis) {
  return el("h3", {}, title, basis ? el("span", { class: "quiet basis" }, ` ${basis}`) : null);
}

function effectTable(id, title, columns, bodies) {
  return el(
    "div",
    { class: "scroll", id, tabindex: 0, role: "region", "aria-label": title },
    el("table", { class: "effects" }, heads(columns), bodies),
  );
}

function verdictMark(effect) {
  const word = effect.verdict;
  const key = word === "higher" || word === "lower" ? `sweep.verdict_${word}` : `runs.verdict_${word}`;
  const side = word === "better" || word === "worse" ? word : "tie";
  return el("span", { class: `mark ${side}` }, (EFFECT_SIGNS[word] ?? "") + t(key));
}

function trendsOf(answer) {
  const { metric } = answer;
  const known = answer.trends.filter((trend) => trend.effect.mean);
  const scale = effectScale(known.map((trend) => trend.effect));
  const changes = known.flatMap(({ effect: { mean } }) => [mean.value, mean.low, mean.high]).filter(isNumber);
  const basis = commonBasis(known.map((trend) => trend.effect));
  const rows = known.map(({ factor, unit, low, high, effect }) =>
    el(
      "tr",
      {},
      el("th", { scope: "row", class: "sticky" }, el("bdi", {}, factor)),
      el("td", {}, t(`sweep.per_${unit}`, { low, high })),
      effectCells(metric, effect, scale, changes, basis),
    ),
  );
  const columns = [[t("sweep.option")], [t("sweep.trend")], ...effectColumns(metric, "", basis)];
  return el(
    "div",
    { class: "block" },
    basisHeading(t("sweep.trends"), basis),
    answer.kind === "draws" ? null : el("p", { class: "intro" }, t("sweep.trend_about")),
    effectTable("answer-trends", t("sweep.trends"), columns, el("tbody", {}, rows)),
  );
}

// The same models by all other metrics.
function othersOf(others) {
  const basis = commonBasis(others.flatMap((one) => one.groups.map((group) => group.effect)));
  const columns = [
    [t("runs.metric")],
    [t("sweep.model")],
    [t("sweep.column_mean"), "num"],
    [t("sweep.column_difference"), "num"],
    [t("runs.effect_verdict")],
    [t("runs.effect_p"), "num"],
    basis ? null : [t("sweep.column_runs")],
  ];
  return el(
    "div",
    { class: "block" },
    basisHeading(t("sweep.others"), basis),
    el("p", { class: "intro" }, t("sweep.others_intro")),
    effectTable("answer-others", t("sweep.others"), columns, others.map((one) => otherRows(one, basis))),
  );
}

function otherRows(one, basis) {
  const { metric } = one;
  const values = one.groups.flatMap(({ mean }) => (mean ? [mean.value, mean.low, mean.high] : [])).filter(isNumber);
  const changes = one.groups.flatMap(({ effect }) => (effect?.mean ? [effect.mean.value, effect.mean.low, effect.mean.high] : [])).filter(isNumber);
  const rows = one.groups.map(({ label, mean, effect }, place) =>
    el(
      "tr",
      {},
      place ? null : el("th", { scope: "rowgroup", rowspan: one.groups.length }, metric.label),
      el("td", {}, el("bdi", {}, label)),
      numberCell(mean && `${metricNumber(metric, mean.value, values)}${unitOf(metric)}`, interval(metric, mean?.low, mean?.high, values)),
      otherCells(metric, place === one.reference, effect, changes, basis),
    ),
  );
  return el("tbody", {}, rows);
}

function otherCells(metric, reference, effect, changes, basis) {
  const wide = basis ? 3 : 4;
  if (reference) return el("td", { class: "quiet", colspan: wide }, t("sweep.is_reference"));
  if (!effect?.mean) return el("td", { class: "quiet", colspan: wide }, effect ? t(`runs.how_sweep_${effect.how}`, { n: 0 }) : "–");
  const { mean } = effect;
  const unit = metric.format === "percent" ? ` ${t("mark.points")}` : "";
  return [
    numberCell(`${signedNumber(metric, mean.value, changes)}${unit}`, interval(metric, mean.low, mean.high, changes)),
    el("td", {}, verdictMark(effect)),
    el("td", { class: "num" }, pValue(effect.p)),
    basis ? null : el("td", { class: "quiet" }, t(`runs.how_sweep_${effect.how}`, { n: mean.n })),
  ];
}
