// A sweep: one quantity by the values of one option, the settings in order, and the effect of
// every option.

function startSweep(core) {
  const view = byId("sweep-view");
  if (!view || !core.targets.length) return;
  const names = core.targets.map((target) => target.name);
  const usual = names.includes(core.usual) ? core.usual : usualTarget(core.targets);
  const factors = core.factors.map((_, i) => String(i));
  const chosen = {
    target: names.includes(get("t")) ? get("t") : usual,
    factor: factors.includes(get("f")) ? Number(get("f")) : 0,
    sort: readSort(get("rank"), core.factors.length),
  };
  const chart = el("div", { id: "sweep-chart" });
  const ranking = el("div", { class: "scroll", id: "sweep-ranking", tabindex: 0, role: "region", "aria-label": t("runs.ranking") });
  const table = el("div", { class: "scroll", id: "sweep-effects", tabindex: 0, role: "region", "aria-label": t("runs.effects") });
  const draw = () => {
    const target = core.targets[names.indexOf(chosen.target)];
    refill(chart, levelChart(core, target, chosen.factor));
    refill(ranking, rankingTable(core, target, chosen.sort, (sort) => {
      chosen.sort = sort;
      set({ rank: `${sort.column}${sort.down ? "-" : ""}` });
      draw();
      ranking.querySelector(`[data-column="${sort.column}"]`)?.focus();
    }));
    refill(table, effectsTable(core, target));
  };
  refill(
    view,
    el(
      "div",
      { class: "fields runs-fields" },
      field(t("runs.target"), core.targets.map((one) => [one.name, `${one.modelLabel} · ${one.metric.label}`]), chosen.target, (value) => {
        chosen.target = value;
        set({ t: value }, { t: usual });
        draw();
      }, { name: "target" }),
      factors.length > 1
        ? field(t("runs.factor"), core.factors.map((factor, i) => [String(i), factor.label]), String(chosen.factor), (value) => {
            chosen.factor = Number(value);
            set({ f: value }, { f: "0" });
            draw();
          }, { name: "factor" })
        : null,
    ),
    el("div", { class: "sweep-pair" }, chart, el("div", {}, el("h3", {}, t("runs.ranking")), ranking)),
    core.targets.some((target) => target.effects.length)
      ? el("div", { class: "block" }, el("h3", {}, t("runs.effects")), el("p", { class: "intro" }, core.effectsIntro ?? t("runs.effects_intro")), table)
      : null,
  );
  draw();
}

// The first tested score of the last model that has one; without scores the first quantity.
function usualTarget(targets) {
  const scores = targets.filter((target) => target.metric.tested && target.kind === "score");
  const last = scores.at(-1)?.model;
  return (scores.find((target) => target.model === last) ?? targets[0]).name;
}

// `score`, or the number of an option, with `-` behind it for the other way round.
function readSort(text, factors) {
  const [, column, minus] = /^(score|\d+)(-?)$/.exec(text) ?? [null, "score", ""];
  const there = column === "score" || Number(column) < factors;
  return there ? { column, down: minus === "-" } : { column: "score", down: false };
}

function levelChart(core, target, place) {
  const factor = core.factors[place];
  const xs = factor.levels.map((label, i) => ({ label, at: factor.numbers?.[i] ?? null }));
  // Settings that agree in all other options are one line; drawn values are never the same.
  const lines = new Map();
  core.settings.forEach((setting, i) => {
    const rest = setting.levels.filter((_, other) => other !== place && !core.factors[other].drawn);
    const key = rest.join(",");
    if (!lines.has(key)) lines.set(key, { label: restLabel(core, setting, place), points: [] });
    lines.get(key).points.push(...settingPoints(core, target, setting, i, place));
  });
  const series = [...lines.values()].map((line, i) => ({
    label: line.label,
    series: seriesAt(i),
    joined: factor.numbers !== null && !factor.drawn,
    points: line.points.sort((a, b) => a.x - b.x),
  }));
  return pointsChart({
    title: t("runs.by_level", { target: `${target.modelLabel} · ${target.metric.label}`, factor: factor.label }),
    note: core.settings.some((setting) => setting.runs.length > 1)
      ? t("runs.points_note", { level: Math.round(100 * core.confidence) })
      : "",
    metric: target.metric,
    xs,
    series,
  });
}

function restLabel(core, setting, place) {
  return core.factors
    .map((factor, i) => (i === place || factor.drawn ? null : `${factor.label} = ${factor.levels[setting.levels[i]]}`))
    .filter((text) => text !== null)
    .join(t("list.comma"));
}

function settingPoints(core, target, setting, i, place) {
  const x = setting.levels[place];
  const mean = target.means[i];
  if (!mean) return [];
  const repeated = mean.n > 1;
  const alone = repeated ? null : target.values[setting.runs.find((run) => target.values[run])];
  const ends = repeated ? mean : alone;
  const point = {
    x,
    y: mean.value,
    low: ends?.low,
    high: ends?.high,
    title: `${setting.label}: ${valueText(target.metric, mean.value, ends?.low, ends?.high)} (n = ${mean.n})`,
  };
  const runs = repeated
    ? setting.runs.map((run) => ({ x, y: target.values[run]?.value ?? null, small: true, title: `${core.runs[run].label}: ${valueText(target.metric, target.values[run]?.value)}` }))
    : [];
  return [point, ...runs];
}

function valueText(metric, value, low, high) {
  const scale = [value, low, high].filter(isNumber);
  return `${metricNumber(metric, value, scale)}${unitOf(metric)} ${interval(metric, low, high, scale)}`.trim();
}

function rankingTable(core, target, sort, onSort) {
  const sign = target.metric.higher_is_better ? 1 : -1;
  const known = core.settings.map((setting, i) => ({ setting, i, mean: target.means[i] })).filter((row) => row.mean);
  const byScore = [...known].sort((a, b) => sign * (b.mean.value - a.mean.value));
  const rank = new Map(byScore.map((row, place) => [row.i, place + 1]));
  const rows = sort.column === "score" ? byScore : [...byScore].sort((a, b) => a.setting.levels[sort.column] - b.setting.levels[sort.column]);
  if (sort.down) rows.reverse();
  const scale = known.map((row) => row.mean.value);
  return el(
    "table",
    { class: "ranking" },
    el(
      "thead",
      {},
      el(
        "tr",
        {},
        el("th", { scope: "col", class: "num" }, t("runs.rank")),
        core.factors.map((factor, i) => sortHead(factor.label, String(i), sort, onSort, "")),
        el("th", { scope: "col", class: "num" }, t("runs.repeats")),
        sortHead(t("runs.mean"), "score", sort, onSort, "num"),
      ),
    ),
    el(
      "tbody",
      {},
      rows.map(({ setting, i, mean }) =>
        el(
          "tr",
          {},
          el("td", { class: "num" }, rank.get(i)),
          setting.levels.map((level, f) => el("td", {}, el("bdi", {}, core.factors[f].levels[level]))),
          el("td", { class: "num" }, mean.n),
          el("td", { class: "num" }, `${metricNumber(target.metric, mean.value, scale)}${unitOf(target.metric)} `, el("span", { class: "quiet" }, interval(target.metric, mean.low, mean.high, scale))),
        ),
      ),
    ),
  );
}

function sortHead(label, column, sort, onSort, kind) {
  const current = sort.column === column;
  const direction = current ? (sort.down ? "descending" : "ascending") : null;
  return el(
    "th",
    { scope: "col", class: kind || null, "aria-sort": direction },
    el(
      "button",
      {
        type: "button",
        class: "sort",
        "data-column": column,
        on: { click: () => onSort({ column, down: current && !sort.down }) },
      },
      el("bdi", {}, label),
      el("span", { "aria-hidden": "true" }, current ? (sort.down ? " ↓" : " ↑") : ""),
    ),
  );
}

function effectsTable(core, target) {
  const scale = target.effects.map((effect) => effect.mean?.value).filter(isNumber);
  return el(
    "table",
    { class: "effects" },
    el(
      "thead",
      {},
      el(
        "tr",
        {},
        [["runs.factor"], ["runs.effect_from"], ["runs.effect_to"], ["runs.effect_difference", "num"], ["runs.effect_verdict"], ["runs.effect_p", "num"], ["runs.effect_how"]].map(
          ([key, kind]) => el("th", { scope: "col", class: kind ?? null }, t(key)),
        ),
      ),
    ),
    el("tbody", {}, target.effects.map((effect) => effectRow(core, target.metric, effect, scale))),
  );
}

// What an effect was compared on; one run on either side has no repeats.
function howKey(effect) {
  return effect.how === "welch" && !isNumber(effect.mean?.low) ? "runs.how_once" : `runs.how_${effect.how}`;
}

function effectRow(core, metric, effect, scale) {
  const factor = core.factors[effect.factor];
  const signs = { better: "▲ ", worse: "▼ ", tie: "≈ " };
  const verdict = effect.verdict || "none";
  return el(
    "tr",
    {},
    el("th", { scope: "row" }, el("bdi", {}, factor.label)),
    el("td", {}, el("bdi", {}, factor.levels[effect.reference])),
    el("td", {}, el("bdi", {}, factor.levels[effect.level])),
    el(
      "td",
      { class: "num" },
      effect.mean ? `${signedNumber(metric, effect.mean.value, scale)} ` : "–",
      effect.mean ? el("span", { class: "quiet" }, interval(metric, effect.mean.low, effect.mean.high, scale)) : null,
    ),
    el("td", {}, effect.mean && metric.tested ? el("span", { class: `mark ${verdict === "none" ? "tie" : verdict}` }, (signs[verdict] ?? "") + t(`runs.verdict_${verdict}`)) : ""),
    el("td", { class: "num" }, isNumber(effect.p) ? pValue(effect.p) : "–"),
    el("td", { class: "quiet" }, t(howKey(effect), { n: effect.mean?.n ?? 0 })),
  );
}
