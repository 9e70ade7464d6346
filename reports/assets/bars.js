// Horizontal bars with whiskers. Positions are percentages, so a card may have any width.

// rows: [{ label, value, low, high, series, title }]; `show` writes a value, `tick` one on the axis.
function barChart(rows, show, { tick = null, from = null, to = null, reference = null } = {}) {
  const known = rows.filter((row) => isNumber(row.value));
  const ends = known.flatMap((row) => [row.value, row.low, row.high]).filter(isNumber);
  let low = from ?? Math.min(0, ...ends);
  let high = to ?? Math.max(0, ...ends);
  if (!(high > low)) high = low + 1;
  if (from === null && low < 0) low -= (high - low) * 0.02;
  if (to === null && high > 0) high += (high - low) * 0.02;
  const at = (value) => (100 * (value - low)) / (high - low);
  const percent = (value) => `${Math.min(100, Math.max(0, at(value)))}%`;
  const marks = ticks(low, high, 4);
  const list = rows.map((row) =>
    el(
      "li",
      { title: row.title },
      el(
        "div",
        { class: "bar-head" },
        el("span", { class: "bar-label" }, el("bdi", {}, row.label)),
        el("span", { class: "num" }, isNumber(row.value) ? show(row.value) : t("overview.not_measured")),
      ),
      isNumber(row.value) ? barSvg(row, percent, at, marks, reference) : null,
    ),
  );
  const axis = tick && svg(
    "svg",
    { class: "bar-axis", width: "100%", height: 14, "aria-hidden": "true" },
    marks.map((value) =>
      svg(
        "text",
        { x: percent(value), y: 11, "text-anchor": at(value) < 4 ? "start" : at(value) > 94 ? "end" : "middle" },
        tick(value),
      ),
    ),
  );
  return [el("ul", { class: "bars" }, list), axis];
}

function barSvg(row, percent, at, marks, reference) {
  const zero = Math.max(0, at(0));
  const end = at(row.value);
  const whisker = isNumber(row.low) && isNumber(row.high);
  return svg(
    "svg",
    { class: "bar-svg", width: "100%", height: 14, "aria-hidden": "true" },
    marks.map((value) => svg("line", { class: "grid", x1: percent(value), x2: percent(value), y1: 0, y2: 14 })),
    svg("rect", {
      class: `fill s${row.series}`,
      x: `${Math.min(zero, end)}%`,
      width: `${Math.abs(end - zero)}%`,
      y: 2,
      height: 10,
      rx: 1.5,
    }),
    isNumber(reference)
      ? svg("line", { class: "reference", x1: percent(reference), x2: percent(reference), y1: 0, y2: 14 })
      : null,
    whisker
      ? [
          svg("line", { class: "whisker", x1: percent(row.low), x2: percent(row.high), y1: 7, y2: 7 }),
          [row.low, row.high].map((value) =>
            svg("line", { class: "whisker", x1: percent(value), x2: percent(value), y1: 4, y2: 10 }),
          ),
        ]
      : null,
  );
}
