// How sure a reward model is against how often it is right, and what goes with the length.

const CALIBRATION = { width: 300, height: 200, left: 42, right: 282, top: 8, bottom: 172 };

function rewardCards(stage) {
  if (!stage.calibration && !stage.facts.length && !stage.statement.length) return null;
  return el(
    "div",
    { class: "cards charts" },
    stage.calibration ? calibrationCard(stage.calibration) : null,
    stage.facts.length ? factsCard(stage.facts) : null,
    stage.statement.length ? statementCard(stage.statement) : null,
  );
}

function calibrationCard(found) {
  const { width, height, left, right, top, bottom } = CALIBRATION;
  const sx = (x) => left + ((x - 0.5) / 0.5) * (right - left);
  const sy = (y) => bottom - y * (bottom - top);
  const most = Math.max(...found.points.map((point) => point.n));
  const xs = [0.5, 0.6, 0.7, 0.8, 0.9, 1];
  const ys = [0, 0.25, 0.5, 0.75, 1];
  return el(
    "figure",
    { class: "card chart" },
    el("figcaption", {}, el("span", { class: "chart-title" }, t("calibration.title"))),
    el("p", { class: "quiet caption" }, t("calibration.intro")),
    svg(
      "svg",
      {
        viewBox: `0 0 ${width} ${height}`,
        width: "100%",
        role: "img",
        "aria-label": `${t("calibration.title")}: ${found.points.map((point) => point.label).join("; ")}`,
      },
      ys.map((y) => [
        svg("line", { class: "grid", x1: left, x2: right, y1: sy(y), y2: sy(y) }),
        svg("text", { x: left - 6, y: sy(y) + 3.5, "text-anchor": "end" }, `${100 * y} %`),
      ]),
      xs.map((x) =>
        svg("text", { x: sx(x), y: bottom + 18, "text-anchor": "middle" }, `${Math.round(100 * x)} %`),
      ),
      svg("line", { class: "reference", x1: sx(0.5), y1: sy(0.5), x2: sx(1), y2: sy(1) }),
      svg("path", {
        class: "line s2",
        d: path(
          found.points.map((point) => point.x),
          found.points.map((point) => point.y),
          sx,
          sy,
        ),
      }),
      found.points.map((point) => [
        isNumber(point.low) && isNumber(point.high)
          ? svg("line", { class: "whisker", x1: sx(point.x), x2: sx(point.x), y1: sy(point.low), y2: sy(point.high) })
          : null,
        svg(
          "circle",
          { class: "dot s2", cx: sx(point.x), cy: sy(point.y), r: 2 + 3 * Math.sqrt(point.n / most) },
          svg("title", {}, point.label),
        ),
      ]),
    ),
    el("p", { class: "quiet caption" }, found.note),
  );
}

function factsCard(rows) {
  return el(
    "figure",
    { class: "card facts-card" },
    el("figcaption", {}, el("span", { class: "chart-title" }, t("length.title"))),
    el(
      "table",
      { class: "facts" },
      el(
        "tbody",
        {},
        rows.map((row) => el("tr", {}, el("th", { scope: "row" }, row.label), el("td", { class: "num" }, row.value))),
      ),
    ),
  );
}

function statementCard(sentences) {
  return el(
    "figure",
    { class: "card" },
    el("figcaption", {}, el("span", { class: "chart-title" }, t("reliability.title"))),
    sentences.map((sentence) => el("p", { dir: "auto" }, sentence)),
  );
}
