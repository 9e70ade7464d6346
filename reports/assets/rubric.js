// Marks from 1 to 5: a radar of the criteria, and beside it one small chart a criterion with the
// judge's mean and the people's.

const FULL_MARKS = 5;
const RADAR = { width: 300, height: 214, radius: 82 };

function drawRubrics(view) {
  const rubrics = view.summary.rubrics.filter((rubric) => rubric.criteria.length);
  byId("rubrics").hidden = !rubrics.length;
  refill(byId("rubric-list"), rubrics.map((rubric) => rubricBlock(view, rubric)));
}

function rubricBlock(view, rubric) {
  const who = ["judge", "people"].filter((one) => rubric.criteria.some((criterion) => criterion[one]));
  const cards = rubric.criteria.map((criterion) => criterionCard(view, criterion, who));
  const radars = rubric.criteria.length < 3 ? [] : who.filter((one) => rubric.criteria.every((criterion) => criterion[one])).map((one) => radarCard(view, rubric, one));
  return el(
    "div",
    { class: "rubric" },
    rubric.name ? el("h4", {}, t("rubric.name", { name: rubric.name })) : null,
    el(
      "div",
      { class: "rubric-cards" },
      radars.length ? el("div", { class: "radars" }, radars) : null,
      el("div", { class: `criteria ${cards.length % 3 === 0 ? "thirds" : cards.length % 2 === 0 ? "even" : ""}` }, cards),
    ),
  );
}

const criterionLabel = (name) => known(`criterion.${name}`, name.replaceAll("_", " "));

function criterionCard(view, criterion, who) {
  const { summary, index } = view;
  const rows = summary.models.flatMap((model) =>
    who
      .filter((one) => criterion[one] && isNumber(index.score(model.name, criterion[one])?.value))
      .map((one) => {
        const metric = summary.metrics.find((other) => other.name === criterion[one]);
        const score = index.score(model.name, metric.name);
        const between = interval(metric, score.low, score.high, [score.value]);
        return {
          label: who.length > 1 ? `${model.label} · ${t(`rubric.${one}`)}` : model.label,
          value: score.value,
          low: score.low,
          high: score.high,
          kind: `dot ${one} s${seriesOf(summary, model.name)}`,
          title: `${between} ${t("overview.n", { n: whole(score.n) })}`.trim(),
          opens: metricAnswers(view, metric, model.name),
        };
      }),
  );
  return el(
    "figure",
    { class: "card" },
    el("figcaption", {}, el("span", { class: "chart-title" }, criterionLabel(criterion.name))),
    barChart(rows, (value) => fixed(value, 2), { tick: (value) => fixed(value, 0), from: 1, to: FULL_MARKS, dots: true }),
  );
}

// As much of a label as fits into so many pixels, about 6 a letter and 11 a Chinese character.
function fitted(text, room) {
  const letters = [...text];
  let used = 0;
  const end = letters.findIndex((letter) => {
    used += letter.codePointAt(0) > 0x2e7f ? 11 : 6;
    return used > room;
  });
  return end < 0 ? text : `${letters.slice(0, Math.max(1, end - 1)).join("")}…`;
}

// --- the radar --------------------------------------------------------------------------------------

function radarCard(view, rubric, who) {
  const { summary, index } = view;
  const models = summary.models.filter((model) =>
    rubric.criteria.every((criterion) => isNumber(index.score(model.name, criterion[who])?.value)),
  );
  const at = (turn, mark) => {
    const angle = (2 * Math.PI * turn) / rubric.criteria.length - Math.PI / 2;
    const far = (RADAR.radius * (mark - 1)) / (FULL_MARKS - 1);
    return [RADAR.width / 2 + far * Math.cos(angle), RADAR.height / 2 + far * Math.sin(angle)];
  };
  const path = (marks) => `${marks.map((mark, i) => `${i ? "L" : "M"}${at(i, mark).map((x) => x.toFixed(1)).join(" ")}`).join("")}Z`;
  const rings = [2, 3, 4, 5].map((mark) => svg("path", { class: "grid", d: path(rubric.criteria.map(() => mark)) }));
  const spokes = rubric.criteria.map((_, i) => {
    const [x, y] = at(i, FULL_MARKS);
    return svg("line", { class: "grid", x1: RADAR.width / 2, y1: RADAR.height / 2, x2: x, y2: y });
  });
  const shapes = models.map((model) =>
    svg("path", {
      class: `radar-shape s${seriesOf(summary, model.name)}`,
      d: path(rubric.criteria.map((criterion) => index.score(model.name, criterion[who]).value)),
    }),
  );
  const labels = rubric.criteria.map((criterion, i) => {
    const [x, y] = at(i, FULL_MARKS + 0.45);
    const side = Math.abs(x - RADAR.width / 2) < 8 ? "middle" : x > RADAR.width / 2 ? "start" : "end";
    const room = side === "middle" ? RADAR.width : side === "start" ? RADAR.width - x : x;
    const label = criterionLabel(criterion.name);
    return svg("text", { x, y: y + 4, "text-anchor": side }, fitted(label, room), svg("title", {}, label));
  });
  const said = models.map((model) =>
    t("rubric.radar_model", {
      model: model.label,
      marks: rubric.criteria.map((criterion) => `${criterionLabel(criterion.name)} ${fixed(index.score(model.name, criterion[who]).value, 2)}`).join(t("list.comma")),
    }),
  );
  return el(
    "figure",
    { class: "card radar-card" },
    el("figcaption", {}, el("span", { class: "chart-title" }, t(`rubric.radar_${who}`)), el("span", { class: "quiet" }, t("rubric.scale"))),
    svg("svg", { class: "radar", viewBox: `0 0 ${RADAR.width} ${RADAR.height}`, role: "img", "aria-label": said.join(" ") }, rings, spokes, shapes, labels),
    el(
      "p",
      { class: "legend-row" },
      models.map((model) => el("span", {}, el("span", { class: `dot-label s${seriesOf(summary, model.name)}`, "aria-hidden": "true" }), el("bdi", {}, model.label))),
    ),
  );
}
