// Scores by group of prompts as a heat map: groups × models, tinted by the score, by the difference
// from the baseline, or by how often a model wins against it. A cell opens the group's answers.

// Groups with fewer prompts are pale: their scores are mostly chance.
const SMALL_GROUP = 10;
const TINTS = ["scores", "differences", "wins"];

function startSlices(view) {
  view.slices = recordsOf(view.summary.slices);
  if (!view.slices.length) return;
  byId("slices").hidden = false;
  const kinds = [...new Set(view.slices.map((slice) => slice.by))];
  const by = byId("slice-by");
  refill(by, kinds.map((kind) => option(kind, sliceLabel(kind), kinds.includes(get("by")) ? get("by") : kinds[0])));
  by.addEventListener("change", () => {
    set({ by: by.value, groups: "" }, { by: kinds[0] });
    drawSlices(view);
  });
  const which = byId("slice-metric");
  which.addEventListener("change", () => {
    set({ of: which.value });
    drawSlices(view);
  });
  const choices = TINTS.map((name) => [name, t(`overview.${name === "wins" ? "slices_rates" : `bars_${name}`}`)]);
  segments(byId("slice-tint"), "tint", choices, TINTS.includes(get("tint")) ? get("tint") : TINTS[0], () => drawSlices(view));
  byId("slice-tint").hidden = view.summary.models.length < 2;
}

function sliceLabel(kind) {
  return known(`answers.${kind}`, kind);
}

function drawSlices(view) {
  if (!view.slices.length) return;
  const { summary, baseline } = view;
  const wins = get("tint") === "wins" && summary.models.length > 1 && Boolean(view.answers?.models.includes(baseline));
  const metrics = view.metrics.filter((metric) => (!wins || (metric.rows && metric.tested)) && view.slices.some((slice) => slice.metric === metric.name));
  const metric = metrics.find((one) => one.name === get("of")) ?? metrics[0];
  byId("slice-metric").closest("label").hidden = !metric;
  refill(byId("slice-metric"), metrics.map((one) => option(one.name, one.label, metric?.name)));
  if (!metric) return refill(byId("slices-table"), el("p", { class: "empty" }, t("overview.not_measured")));
  const kind = byId("slice-by").value;
  const slices = view.slices.filter((slice) => slice.by === kind && slice.metric === metric.name);
  const models = summary.models.filter((model) => slices.some((slice) => slice.model === model.name) && !(wins && model.name === baseline));
  const differences = get("tint") === "differences" && models.some((model) => model.name === baseline);
  const names = { baseline: labelOf(summary, baseline), small: SMALL_GROUP };
  const tested = baseline === summary.baseline && slices.some((slice) => slice.verdict);
  byId("slices-intro").textContent =
    t(`overview.slices_${wins ? "wins" : differences ? "differences" : "intro"}`, names) + (tested && !wins ? t("overview.slices_marks", names) : "");
  const heat = { view, metric, kind, models, differences, cells: new Map(slices.map((one) => [JSON.stringify([one.group, one.model]), one])) };
  heat.cell = (group, model) => heat.cells.get(JSON.stringify([group, model]));
  heat.groups = [...new Set(slices.map((slice) => slice.group))];
  heat.rates = wins ? winRatesIn(heat) : null;
  heat.scores = slices.map((slice) => slice.score).filter(isNumber);
  heat.far = Math.max(...heat.groups.flatMap((group) => models.map((model) => Math.abs(differenceIn(heat, group, model.name) ?? 0))), 0);
  return drawHeat(heat);
}

// By group and model how often it wins against the baseline.
function winRatesIn({ view, metric, kind, models, groups }) {
  const { answers, baseline } = view;
  const rows = rowsOfGroups(answers, kind, groups);
  const rate = (group, model) => rows.get(group) && winsOver(answers, rows.get(group), { metric: metric.name, model, baseline });
  return new Map(groups.map((group) => [group, new Map(models.map((model) => [model.name, rate(group, model.name)]))]));
}

function drawHeat(heat) {
  const { models, metric, kind } = heat;
  const order = groupOrder(models);
  const resort = (name) => {
    const next = { "": "best", best: "worst", worst: "" }[order.metric === name ? order.way : ""];
    set({ groups: next ? `${next}.${name}` : "" });
    drawHeat(heat);
    byId("slices-table").querySelector(`[data-order="${CSS.escape(name)}"]`).focus();
  };
  const head = el(
    "tr",
    {},
    el("th", { scope: "col", class: "sticky" }, sliceLabel(kind)),
    orderHead(order, "", { class: "num" }, resort, "n"),
    models.map((model) => orderHead(order, model.name, { class: "num" }, resort, el("bdi", {}, model.label))),
  );
  const count = (group) => Math.max(0, ...models.map((model) => heat.cell(group, model.name)?.n ?? 0));
  const rows = orderedGroups(heat, order, count).map((group) =>
    el(
      "tr",
      {},
      el("th", { scope: "row", class: "sticky" }, groupButton(heat, group)),
      el("td", { class: "num quiet" }, whole(count(group))),
      models.map((model) => heatCell(heat, group, model)),
    ),
  );
  const table = el(
    "table",
    { class: "heat", role: "grid", "aria-label": `${t("overview.slices")}: ${metric.label}` },
    el("thead", {}, head),
    el("tbody", {}, rows),
  );
  refill(byId("slices-table"), table);
  startTableGrid(table);
}

// --- order ------------------------------------------------------------------------------------------

// `best.sft` orders the groups by the score of sft, `best.` by their size.
function groupOrder(models) {
  const [, way, metric] = /^(best|worst)\.(.*)$/s.exec(get("groups")) ?? [];
  const known = way && (metric === "" || models.some((one) => one.name === metric));
  return known ? { way, metric } : { way: "", metric: null };
}

function orderedGroups(heat, { way, metric }, count) {
  if (!way) return heat.groups;
  const better = metric === "" || heat.rates || heat.metric.higher_is_better ? 1 : -1;
  const sign = way === "best" ? better : -better;
  const score = (group) =>
    metric === "" ? count(group) : heat.rates ? heat.rates.get(group).get(metric)?.value : heat.differences ? differenceIn(heat, group, metric) : heat.cell(group, metric)?.score;
  const known = heat.groups.filter((group) => isNumber(score(group)));
  const rest = heat.groups.filter((group) => !isNumber(score(group)));
  return [...known.toSorted((x, y) => sign * (score(y) - score(x))), ...rest];
}

// --- cells ------------------------------------------------------------------------------------------

// Score less the baseline's in this group; the model's own comparison where the run made one.
function differenceIn({ view, cell }, group, model) {
  if (model === view.baseline) return null;
  const [own, base] = [cell(group, model), cell(group, view.baseline)];
  if (!isNumber(own?.score) || !isNumber(base?.score)) return null;
  return view.baseline === view.summary.baseline && isNumber(own.difference) ? own.difference : own.score - base.score;
}

function groupButton({ view, metric, kind }, group) {
  const where = groupCondition(kind, group, view.summary.columns);
  const title = where ? t("overview.slice_show") : null;
  return linkedButton(where && { metric: metric.rows ? metric.name : undefined, where: [where] }, { class: "link", title }, el("bdi", {}, groupLabel(group)));
}

function heatCell(heat, group, model) {
  return heat.rates ? rateCell(heat, group, model) : valueCell(heat, group, model);
}

function rateCell({ view, metric, kind, rates }, group, model) {
  const rate = rates.get(group).get(model.name);
  if (!rate) return el("td", { class: "num missing" }, "–");
  const where = groupCondition(kind, group, view.summary.columns);
  const opens = metricAnswers(view, metric, model.name, { where: [where], sort: "b" });
  const percent = (share) => fixed(100 * share, 0);
  const names = { model: labelOf(view.summary, model.name), baseline: labelOf(view.summary, view.baseline) };
  const tip = () => [
    el("strong", {}, t("mark.pair", names)),
    el("span", { class: "quiet" }, " · ", el("bdi", {}, groupLabel(group))),
    el("p", {}, t("overview.slice_rate", { metric: metric.label, rate: percent(rate.value), low: percent(rate.low), high: percent(rate.high) })),
    el("p", { class: "quiet" }, t("mark.rows", { wins: whole(rate.wins), ties: whole(rate.ties), losses: whole(rate.losses) })),
    el("p", { class: "quiet" }, t("overview.cell_hint")),
  ];
  const button = linkedButton(opens, { class: "cell" }, `${percent(rate.value)} %`);
  const node = el("td", { class: rate.value === 0.5 ? "num" : `num ${rate.value > 0.5 ? "heat-better" : "heat-worse"}` }, withTip(button, tip));
  const strength = rate.n < SMALL_GROUP ? 0.35 : 1;
  node.style.setProperty("--heat", `${Math.round(strength * (6 + 80 * Math.abs(rate.value - 0.5)))}%`);
  return node;
}

function valueCell(heat, group, model) {
  const { view, metric, kind, differences } = heat;
  const cell = heat.cell(group, model.name);
  if (!cell || !isNumber(cell.score)) return el("td", { class: "num missing" }, "–");
  const difference = differenceIn(heat, group, model.name);
  const compared = differences && model.name !== view.baseline;
  const tested = view.baseline === view.summary.baseline && cell.verdict;
  const sign = tested && cell.verdict !== "tie" ? MARKS[cell.verdict] : "";
  const text = compared && isNumber(difference)
    ? signedNumber(metric, difference, [heat.far])
    : metricNumber(metric, cell.score, heat.scores) + unitOf(metric);
  const where = groupCondition(kind, group, view.summary.columns);
  const opens = where && metricAnswers(view, metric, model.name, { where: [where] });
  const button = linkedButton(
    opens,
    { class: "cell" },
    el("span", { class: "heat-sign", "aria-hidden": "true" }, sign),
    text,
  );
  const node = el("td", { class: "num" }, opens ? withTip(button, () => heatTip(heat, group, model, cell)) : button);
  // Neither more nor less is better: no colour.
  if (metric.tested) paint(node, heat, cell, compared ? difference : null, differences);
  return node;
}

function paint(node, { metric, scores, far }, cell, difference, differences) {
  const strength = cell.n < SMALL_GROUP ? 0.35 : 1;
  if (differences) {
    if (!difference || !far) return;
    node.classList.add(difference > 0 === metric.higher_is_better ? "heat-better" : "heat-worse");
    node.style.setProperty("--heat", `${Math.round(strength * (6 + (40 * Math.abs(difference)) / far))}%`);
    return;
  }
  const [low, high] = range(scores);
  const share = (cell.score - low) / (high - low || 1);
  node.classList.add("heat-cell");
  node.style.setProperty("--heat", `${Math.round(strength * (4 + 50 * (metric.higher_is_better ? share : 1 - share)))}%`);
}

function heatTip({ view, metric }, group, model, cell) {
  const { summary, baseline } = view;
  const lines = [
    el("strong", {}, model.label),
    el("span", { class: "quiet" }, " · ", el("bdi", {}, groupLabel(group))),
    el("p", {}, `${metric.label}: ${metricNumber(metric, cell.score)}${unitOf(metric)}, ${t("overview.n", { n: whole(cell.n) })}`),
  ];
  if (baseline === summary.baseline && isNumber(cell.difference)) {
    lines.push(el("p", {}, t("mark.against", { baseline: labelOf(summary, baseline) }), " ", pairDetail(metric, cell)));
  }
  return [...lines, el("p", { class: "quiet" }, t("overview.cell_hint"))];
}
