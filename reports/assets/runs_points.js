// A chart of points with whiskers over values of an option, or over runs.

const POINTS_HEIGHT = 230;

// chart: { title, aside, note, metric, xs: [{ label, short, at }], series: [{ label, series, joined,
// points: [{ x, y, low, high, small, title }] }] }. `x` is a place in xs; `at` its place on the
// axis where options are numbers, null where they are words; `short` stands where labels are too long.
function pointsChart(chart) {
  const plot = el("div", { class: "plot points-plot" });
  const named = chart.series.length > 1;
  const figure = el(
    "figure",
    { class: "card chart points" },
    el("figcaption", {}, el("span", { class: "chart-title" }, chart.title), chart.aside ? el("span", { class: "quiet" }, chart.aside) : null),
    named
      ? el(
          "div",
          { class: "legend-row" },
          chart.series.map((item) =>
            el("span", { class: "key" }, el("span", { class: `swatch s${item.series}` }), el("bdi", {}, item.label)),
          ),
        )
      : null,
    plot,
    chart.note ? el("p", { class: "quiet caption" }, chart.note) : null,
  );
  new ResizeObserver(([entry]) => drawPoints(plot, chart, Math.floor(entry.contentRect.width))).observe(plot);
  return figure;
}

function yRange(chart) {
  const values = chart.series.flatMap((item) => item.points.flatMap((p) => [p.y, p.low, p.high])).filter(isNumber);
  let low = Math.min(...values);
  let high = Math.max(...values);
  // What differs by rounding alone is one value.
  const spread = high - low > 1e-9 * Math.abs(high) ? high - low : 0;
  const pad = (spread || Math.abs(low) || 1) * 0.08;
  low = low >= 0 && low < 0.35 * high ? 0 : low - pad;
  high += pad;
  if (chart.metric.format === "percent") high = Math.min(1, Math.max(high, low + 1e-6));
  return [low, high];
}

// Places on the x axis: numbers by their size (logarithmic where they span a factor of 20), words
// in equal steps.
function xPlaces(xs, left, right) {
  const numbers = xs.map((x) => x.at);
  if (xs.length > 1 && numbers.every(isNumber)) {
    const log = Math.min(...numbers) > 0 && Math.max(...numbers) / Math.min(...numbers) >= 20;
    const scaled = numbers.map((value) => (log ? Math.log(value) : value));
    const [low, high] = [Math.min(...scaled), Math.max(...scaled)];
    const inset = Math.min(48, (right - left) / 8);
    if (high > low) return scaled.map((v) => left + inset + ((v - low) / (high - low)) * (right - left - 2 * inset));
  }
  return xs.map((_, i) => left + ((i + 0.5) / xs.length) * (right - left));
}

function drawPoints(plot, chart, width) {
  if (width < 60) return;
  const [low, high] = yRange(chart);
  const marks = ticks(low, high, 5);
  const labels = chart.metric.format === "percent" ? tickLabels(marks.map((v) => 100 * v)).map((v) => `${v} %`) : tickLabels(marks);
  const left = 13 + 6.6 * Math.max(...labels.map((label) => label.length));
  const box = { left, right: width - 6, top: 8, bottom: POINTS_HEIGHT - 26 };
  const places = xPlaces(chart.xs, box.left, box.right);
  const sy = (y) => box.bottom - ((y - low) / (high - low)) * (box.bottom - box.top);
  const width1 = chart.series.length;
  const shift = (i) => (i - (width1 - 1) / 2) * Math.min(9, (box.right - box.left) / chart.xs.length / (width1 + 1));
  refill(
    plot,
    svg(
      "svg",
      { width, height: POINTS_HEIGHT, role: "img", "aria-label": chart.title },
      marks.map((value, i) => [
        svg("line", { class: "grid", x1: box.left, x2: box.right, y1: sy(value), y2: sy(value) }),
        svg("text", { x: box.left - 6, y: sy(value) + 3.5, "text-anchor": "end" }, labels[i]),
      ]),
      xLabels(chart.xs, places, box),
      chart.series.map((item, i) => pointSeries(item, (x) => places[x] + shift(i), sy)),
    ),
  );
}

// Labels that fit beside each other; the rest are left out, never cut in the middle of the axis.
function xLabels(xs, places, box) {
  const found = [];
  let end = -Infinity;
  const order = xs.map((_, i) => i).sort((a, b) => places[a] - places[b]);
  const room = (box.right - box.left) / xs.length;
  const long = xs.some((x) => x.short !== undefined && 6.4 * textWidth(x.label) > room);
  for (const i of order) {
    const text = long ? xs[i].short : shortened(xs[i].label, Math.max(6, Math.floor(Math.max(room, 60) / 6.4)));
    const half = 3.3 * textWidth(text);
    const x = Math.min(Math.max(places[i], half + 2), box.right - half);
    if (x - half < end) continue;
    end = x + half + 8;
    found.push(svg("text", { x, y: POINTS_HEIGHT - 8, "text-anchor": "middle" }, text, svg("title", {}, xs[i].label)));
  }
  return found;
}

const textWidth = (text) => [...text].reduce((sum, sign) => sum + (sign.codePointAt(0) > 0x2e7f ? 1.7 : 1), 0);

// A text of so many signs at most; its end tells names apart more often than its middle.
function shortened(text, most) {
  const signs = [...text];
  if (signs.length <= most) return text;
  const tail = Math.ceil((most - 1) / 2);
  return `${signs.slice(0, most - 1 - tail).join("")}…${signs.slice(-tail).join("")}`;
}

function pointSeries(item, sx, sy) {
  const large = item.points.filter((point) => !point.small && isNumber(point.y));
  const line = large.map((point, i) => `${i ? "L" : "M"}${sx(point.x).toFixed(1)} ${sy(point.y).toFixed(1)}`).join("");
  return svg(
    "g",
    { class: `s${item.series}` },
    item.joined && large.length > 1 ? svg("path", { class: "line thin", d: line }) : null,
    item.points.filter((point) => isNumber(point.y)).map((point) => {
      const x = sx(point.x) + (point.small ? 7 : 0);
      return svg(
        "g",
        { class: point.small ? "point small" : "point" },
        isNumber(point.low) && isNumber(point.high)
          ? svg("line", { class: "stem", x1: x, x2: x, y1: sy(point.low), y2: sy(point.high) })
          : null,
        svg("circle", { class: "dot", cx: x, cy: sy(point.y), r: point.small ? 2.4 : 4.2 }),
        svg("title", {}, point.title),
      );
    }),
  );
}
