// Horizontal bars, or dots, with whiskers. Positions are percentages, so a card may have any width.

// rows: [{ label, value, low, high, title, series (a colour) or kind (classes), mark, opens }]; `show`
// writes a value, `tick` one
// on the axis; `dots`: the value is a dot, not the end of a bar; `opens`: what a click shows.
function barChart(rows, show, { tick = null, from = null, to = null, reference = null, dots = false } = {}) {
  const known = rows.filter((row) => isNumber(row.value));
  const ends = known.flatMap((row) => [row.value, row.low, row.high]).filter(isNumber);
  let low = from ?? Math.min(0, ...ends);
  let high = to ?? Math.max(0, ...ends);
  if (!(high > low)) high = low + 1;
  // Nothing but zeros: the zero in the middle.
  if (dots && from === null && ends.every((value) => value === 0)) [low, high] = [-1, 1];
  const room = (high - low) * (dots ? 0.06 : 0.02);
  if (from === null && low < 0) low -= room;
  if (to === null && high > 0) high += room;
  const at = (value) => (100 * (value - low)) / (high - low);
  const percent = (value) => `${Math.min(100, Math.max(0, at(value)))}%`;
  const marks = ticks(low, high, 4);
  const list = rows.map((row) => {
    const number = isNumber(row.value) ? show(row.value) : t("overview.not_measured");
    const content = [
      el(
        "span",
        { class: "bar-head" },
        el("span", { class: "bar-label" }, el("bdi", {}, row.label)),
        el("span", { class: "num" }, row.mark ? `${row.mark} ` : null, number),
      ),
      isNumber(row.value) ? barSvg(row, percent, at, marks, reference, dots) : null,
    ];
    return el("li", {}, linkedButton(row.opens ?? null, { class: "bar-row", title: row.title }, content));
  });
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
  const chart = el("ul", { class: "bars" }, list);
  startGrid(chart, list.map((item) => [item.querySelector("button")]));
  return [chart, axis];
}

function barSvg(row, percent, at, marks, reference, dots) {
  const zero = Math.max(0, at(0));
  const end = at(row.value);
  const whisker = isNumber(row.low) && isNumber(row.high);
  const tall = 14;
  return svg(
    "svg",
    { class: "bar-svg", width: "100%", height: tall, "aria-hidden": "true" },
    marks.map((value) => svg("line", { class: "grid", x1: percent(value), x2: percent(value), y1: 0, y2: tall })),
    isNumber(reference)
      ? svg("line", { class: "reference", x1: percent(reference), x2: percent(reference), y1: 0, y2: tall })
      : null,
    dots
      ? null
      : svg("rect", {
          class: row.kind ?? `fill s${row.series}`,
          x: `${Math.min(zero, end)}%`,
          width: `${Math.abs(end - zero)}%`,
          y: 2,
          height: 10,
          rx: 1.5,
        }),
    whisker
      ? [
          svg("line", { class: "whisker", x1: percent(row.low), x2: percent(row.high), y1: 7, y2: 7 }),
          [row.low, row.high].map((value) =>
            svg("line", { class: "whisker", x1: percent(value), x2: percent(value), y1: 4, y2: 10 }),
          ),
        ]
      : null,
    dots ? svg("circle", { class: row.kind, cx: percent(row.value), cy: 7, r: 4.5 }) : null,
  );
}
