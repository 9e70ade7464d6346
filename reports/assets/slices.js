// Scores by group of prompts, as a table whose cells are tinted by value.

function startSlices(summary, showGroup) {
  const slices = summary.slices;
  if (!slices.length) return;
  byId("slices").hidden = false;
  const kinds = [...new Set(slices.map((slice) => slice.by))];
  const metrics = summary.metrics.filter((m) => slices.some((slice) => slice.metric === m.name));
  const by = byId("slice-by");
  const which = byId("slice-metric");
  const chosenBy = kinds.includes(get("by")) ? get("by") : kinds[0];
  const chosenMetric = metrics.some((m) => m.name === get("of")) ? get("of") : metrics[0].name;
  refill(by, kinds.map((kind) => option(kind, sliceLabel(kind), chosenBy)));
  refill(which, metrics.map((metric) => option(metric.name, metric.label, chosenMetric)));
  const draw = () => {
    set({ by: by.value, of: which.value }, { by: kinds[0], of: metrics[0].name });
    drawSlices(summary, by.value, metrics.find((m) => m.name === which.value), showGroup);
  };
  by.addEventListener("change", draw);
  which.addEventListener("change", draw);
  drawSlices(summary, chosenBy, metrics.find((m) => m.name === chosenMetric), showGroup);
}

function sliceLabel(kind) {
  return STRINGS[`answers.${kind}`] ?? kind;
}

function drawSlices(summary, kind, metric, showGroup) {
  const slices = summary.slices.filter((slice) => slice.by === kind && slice.metric === metric.name);
  const groups = [...new Set(slices.map((slice) => slice.group))];
  const models = summary.models.filter((model) => slices.some((slice) => slice.model === model.name));
  const cells = new Map(slices.map((slice) => [JSON.stringify([slice.group, slice.model]), slice]));
  const values = slices.map((slice) => slice.score).filter(isNumber);
  const [low, high] = values.length ? range(values) : [0, 1];
  const head = el(
    "tr",
    {},
    el("th", { scope: "col", class: "sticky" }, sliceLabel(kind)),
    el("th", { scope: "col", class: "num" }, "n"),
    models.map((model) => el("th", { scope: "col", class: "num" }, el("bdi", {}, model.label))),
  );
  const rows = groups.map((group) => {
    const found = models.map((model) => cells.get(JSON.stringify([group, model.name])));
    return el(
      "tr",
      {},
      el("th", { scope: "row", class: "sticky" }, groupButton(kind, group, showGroup)),
      el("td", { class: "num quiet" }, whole(Math.max(0, ...found.map((cell) => cell?.n ?? 0)))),
      found.map((cell) => heatCell(metric, cell, low, high, values)),
    );
  });
  refill(byId("slices-table"), el("table", { class: "heat" }, el("thead", {}, head), el("tbody", {}, rows)));
}

function groupButton(kind, group, showGroup) {
  if (kind !== "language" && kind !== "category") return el("bdi", {}, group);
  return el(
    "button",
    { type: "button", class: "link", title: t("overview.slice_show"), on: { click: () => showGroup(kind, group) } },
    el("bdi", {}, group),
  );
}

function heatCell(metric, cell, low, high, scale) {
  if (!cell || !isNumber(cell.score)) return el("td", { class: "num missing" }, "–");
  const share = (cell.score - low) / (high - low || 1);
  const good = metric.higher_is_better ? share : 1 - share;
  const node = el(
    "td",
    { class: metric.tested ? "num heat-cell" : "num", title: t("overview.n", { n: whole(cell.n) }) },
    metricNumber(metric, cell.score, scale) + unitOf(metric),
  );
  // Neither more nor less is better: no colour.
  if (!metric.tested) return node;
  node.style.setProperty("--heat", `${Math.round(4 + 50 * good)}%`);
  return node;
}
