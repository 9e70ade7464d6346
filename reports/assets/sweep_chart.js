// The number in question over the levels of an option: single runs, their means, and a band.

const LEVELS_HEIGHT = 250;

// chart: { title, note, metric, xs: [{ label, at }], log, joined, means: [{ x, y, low, high, title }],
// runs: [{ x, y, title }] }; `joined`: levels are numbers, so the means are a line with its band.
function levelsChart(chart) {
  const plot = el("div", { class: "plot levels-plot" });
  const figure = el(
    "figure",
    { class: "card chart points levels" },
    el("figcaption", {}, el("span", { class: "chart-title" }, el("bdi", {}, chart.title))),
    plot,
    el("p", { class: "quiet caption" }, chart.note),
  );
  new ResizeObserver(([entry]) => drawLevels(plot, chart, Math.floor(entry.contentRect.width))).observe(plot);
  return figure;
}

function drawLevels(plot, chart, width) {
  if (width < 60) return;
  const [low, high] = yRange({ metric: chart.metric, series: [{ points: [...chart.means, ...chart.runs] }] });
  const marks = ticks(low, high, 5);
  const percent = chart.metric.format === "percent";
  const labels = tickLabels(percent ? marks.map((v) => 100 * v) : marks).map((v) => (percent ? `${v} %` : v));
  const left = 13 + 6.6 * Math.max(...labels.map((label) => label.length));
  const box = { left, right: width - 6, top: 8, bottom: LEVELS_HEIGHT - 40 };
  const places = levelPlaces(chart, box.left, box.right);
  const sx = (x) => places[x];
  const sy = (y) => box.bottom - ((y - low) / (high - low)) * (box.bottom - box.top);
  refill(
    plot,
    svg(
      "svg",
      { width, height: LEVELS_HEIGHT, role: "img", "aria-label": chart.title, class: "s2" },
      marks.map((value, i) => [
        svg("line", { class: "grid", x1: box.left, x2: box.right, y1: sy(value), y2: sy(value) }),
        svg("text", { x: box.left - 6, y: sy(value) + 3.5, "text-anchor": "end" }, labels[i]),
      ]),
      levelLabels(chart, places, box),
      chart.joined ? levelBand(chart.means, sx, sy) : null,
      runDots(chart.runs, sx, sy, (0.7 * (box.right - box.left)) / chart.xs.length),
      chart.means.map((mean) =>
        svg(
          "g",
          { class: "point" },
          !chart.joined && isNumber(mean.low) ? svg("line", { class: "stem", x1: sx(mean.x), x2: sx(mean.x), y1: sy(mean.low), y2: sy(mean.high) }) : null,
          svg("circle", { class: "dot", cx: sx(mean.x), cy: sy(mean.y), r: 4.4 }),
          svg("title", {}, mean.title),
        ),
      ),
    ),
  );
}

// Numbers by their size, by doublings where the trend is told by them; words in equal steps.
function levelPlaces({ xs, log }, left, right) {
  if (!log) return xPlaces(xs, left, right);
  const scaled = xs.map((x) => Math.log2(x.at));
  const [low, high] = [Math.min(...scaled), Math.max(...scaled)];
  const inset = Math.min(48, (right - left) / 8);
  return scaled.map((value) => left + inset + ((value - low) / (high - low)) * (right - left - 2 * inset));
}

// The line through the means; the band lies where neighbouring levels both have an interval.
function levelBand(means, sx, sy) {
  const inOrder = [...means].sort((a, b) => sx(a.x) - sx(b.x));
  const banded = inOrder.filter((mean) => isNumber(mean.low) && isNumber(mean.high));
  const at = (mean, value) => `${sx(mean.x).toFixed(1)} ${sy(value).toFixed(1)}`;
  const line = inOrder.map((mean, i) => `${i ? "L" : "M"}${at(mean, mean.y)}`).join("");
  const edges = [...banded.map((mean) => at(mean, mean.high)), ...banded.toReversed().map((mean) => at(mean, mean.low))];
  return [
    banded.length > 1 ? svg("path", { class: "band", d: `M${edges.join("L")}Z` }) : null,
    inOrder.length > 1 ? svg("path", { class: "line", d: line }) : null,
  ];
}

// Runs of one level stand beside each other, in the order of their seeds.
function runDots(runs, sx, sy, room) {
  const counts = new Map();
  for (const run of runs) counts.set(run.x, (counts.get(run.x) ?? 0) + 1);
  const seen = new Map();
  return runs.map((run) => {
    const place = seen.get(run.x) ?? 0;
    seen.set(run.x, place + 1);
    const count = counts.get(run.x);
    const step = Math.min(7, room / count);
    const x = sx(run.x) + (place - (count - 1) / 2) * step;
    return svg("g", { class: "point small" }, svg("circle", { class: "dot", cx: x, cy: sy(run.y), r: 2.6 }), svg("title", {}, run.title));
  });
}

// The label of every level, words on two lines where one has no room; what still overlaps is left out.
function levelLabels({ xs, joined }, places, box) {
  const room = Math.max(40, (box.right - box.left) / xs.length - 6);
  const signs = Math.max(5, Math.floor(room / 6.4));
  const order = xs.map((_, i) => i).sort((a, b) => places[a] - places[b]);
  const found = [];
  let end = -Infinity;
  for (const i of order) {
    const lines = joined ? [xs[i].label] : inTwo(xs[i].label, signs);
    const half = 3.3 * Math.max(...lines.map(textWidth));
    const x = Math.min(Math.max(places[i], half + 2), box.right - half);
    if (x - half < end) continue;
    end = x + half + 4;
    const y = LEVELS_HEIGHT - 22;
    found.push(
      svg(
        "text",
        { x, y, "text-anchor": "middle" },
        svg("title", {}, xs[i].label),
        lines.map((line, n) => svg("tspan", { x, y: y + 13 * n }, line)),
      ),
    );
  }
  return found;
}

// A label as one line, or as two that break at a space; each of so many signs at most.
function inTwo(label, signs) {
  if (textWidth(label) <= signs) return [label];
  const breaks = [...label.matchAll(/[ ,_\-·]/g)].map((match) => match.index + 1);
  const middle = label.length / 2;
  const at = breaks.sort((a, b) => Math.abs(a - middle) - Math.abs(b - middle))[0];
  if (at === undefined) return [shortened(label, signs)];
  return [label.slice(0, at).trim(), label.slice(at).trim()].map((line) => shortened(line, signs));
}
