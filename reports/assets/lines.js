// Line charts drawn at the width that they have, with a readout in the legend.

const LINE_HEIGHT = 190;
const SMOOTH_FROM = 60;

function lineChart(chart) {
  const series = chart.series.map((item, index) => ({ ...item, index, smooth: smoothed(item) }));
  const values = el("span", { class: "quiet num" });
  const legend = el("div", { class: "legend-row" });
  const plot = el("div", { class: "plot" });
  const figure = el(
    "figure",
    { class: "card chart" },
    el("figcaption", {}, el("span", { class: "chart-title" }, chart.title), values),
    legend,
    plot,
  );
  const outputs = series.map((item) => el("span", { class: "num" }));
  refill(
    legend,
    series.map((item, i) =>
      el("span", { class: "key" }, el("span", { class: `swatch s${item.index}` }), item.label, " ", outputs[i]),
    ),
  );
  const view = { cursor: null };
  const read = () => {
    const step = view.cursor;
    values.textContent = step === null ? t("training.by_step") : t("training.step", { step: whole(step) });
    series.forEach((item, i) => {
      const at = step === null ? item.x.length - 1 : nearest(item.x, step);
      outputs[i].textContent = compact(item.y[at]);
    });
  };
  const draw = (width) => drawLines(plot, series, width, view, read, chart.title);
  new ResizeObserver(([entry]) => draw(Math.floor(entry.contentRect.width))).observe(plot);
  read();
  return figure;
}

// A centred mean whose window narrows towards the ends; null for short or smooth series.
function smoothed(item) {
  const count = item.y.length;
  if (count < SMOOTH_FROM || !isJagged(item.y)) return null;
  const sums = [0];
  for (const value of item.y) sums.push(sums.at(-1) + value);
  const half = Math.max(2, Math.round(count / 40));
  return item.y.map((_, i) => {
    const reach = Math.min(half, i, count - 1 - i);
    return (sums[i + reach + 1] - sums[i - reach]) / (2 * reach + 1);
  });
}

// Whether the line turns often: noise does, a schedule does not.
function isJagged(values) {
  let turns = 0;
  for (let i = 2; i < values.length; i += 1) {
    if ((values[i] - values[i - 1]) * (values[i - 1] - values[i - 2]) < 0) turns += 1;
  }
  return turns > 0.15 * values.length;
}

function nearest(xs, value) {
  let low = 0;
  let high = xs.length - 1;
  while (high - low > 1) {
    const middle = (low + high) >> 1;
    if (xs[middle] <= value) low = middle;
    else high = middle;
  }
  return Math.abs(xs[high] - value) < Math.abs(xs[low] - value) ? high : low;
}

function range(values) {
  let low = Infinity;
  let high = -Infinity;
  for (const value of values) {
    if (value < low) low = value;
    if (value > high) high = value;
  }
  if (low === high) {
    const pad = Math.abs(low) * 0.1 || 1;
    return [low - pad, high + pad];
  }
  return [low, high];
}

function drawLines(plot, series, width, view, read, title) {
  if (width < 40) return;
  const [xLow, xHigh] = range(series.flatMap((item) => item.x));
  let [yLow, yHigh] = range(series.flatMap((item) => item.y));
  const pad = (yHigh - yLow) * 0.05;
  // A quantity that is never negative keeps its zero when it comes near it.
  yLow = yLow >= 0 && yLow < 0.35 * yHigh ? 0 : yLow - pad;
  yHigh += pad;
  const yTicks = ticks(yLow, yHigh, 5);
  const yLabels = tickLabels(yTicks);
  const left = 13 + 6.6 * Math.max(...yLabels.map((label) => label.length));
  const box = { left, right: width - 8, top: 8, bottom: LINE_HEIGHT - 22 };
  const sx = (x) => box.left + ((x - xLow) / (xHigh - xLow)) * (box.right - box.left);
  const sy = (y) => box.bottom - ((y - yLow) / (yHigh - yLow)) * (box.bottom - box.top);
  const xTicks = ticks(xLow, xHigh, Math.max(2, Math.floor(width / 60)));
  const xLabels = tickLabels(xTicks);
  const cursor = svg("g", { class: "cursor", visibility: "hidden" });
  const root = svg(
    "svg",
    { width, height: LINE_HEIGHT, tabindex: 0, role: "img", "aria-label": title },
    yTicks.map((value, i) => [
      svg("line", { class: "grid", x1: box.left, x2: box.right, y1: sy(value), y2: sy(value) }),
      svg("text", { x: box.left - 6, y: sy(value) + 3.5, "text-anchor": "end" }, yLabels[i]),
    ]),
    xTicks.map((value, i) =>
      svg(
        "text",
        { x: sx(value), y: LINE_HEIGHT - 6, "text-anchor": sx(value) > box.right - 14 ? "end" : "middle" },
        xLabels[i],
      ),
    ),
    series.map((item) => [
      svg("path", { class: `line s${item.index}${item.smooth ? " raw" : ""}`, d: path(item.x, item.y, sx, sy) }),
      item.smooth ? svg("path", { class: `line s${item.index}`, d: path(item.x, item.smooth, sx, sy) }) : null,
      item.x.length <= 40 && item.split !== "train"
        ? item.x.map((x, i) => svg("circle", { class: `dot s${item.index}`, cx: sx(x), cy: sy(item.y[i]), r: 2.2 }))
        : null,
    ]),
    cursor,
  );
  const xs = series.reduce((a, b) => (b.x.length > a.x.length ? b : a)).x;
  const place = (index) => {
    view.cursor = index === null ? null : xs[Math.min(xs.length - 1, Math.max(0, index))];
    read();
    cursor.setAttribute("visibility", index === null ? "hidden" : "visible");
    if (index === null) return;
    const x = sx(view.cursor);
    refill(
      cursor,
      svg("line", { x1: x, x2: x, y1: box.top, y2: box.bottom }),
      series.map((item) => {
        const at = nearest(item.x, view.cursor);
        return svg("circle", { class: `dot s${item.index}`, cx: sx(item.x[at]), cy: sy(item.y[at]), r: 3.2 });
      }),
    );
  };
  root.addEventListener("pointermove", (event) => {
    const inside = event.clientX - root.getBoundingClientRect().left;
    place(nearest(xs, xLow + ((inside - box.left) / (box.right - box.left)) * (xHigh - xLow)));
  });
  root.addEventListener("pointerleave", () => place(null));
  root.addEventListener("blur", () => place(null));
  root.addEventListener("keydown", (event) => {
    const move = { ArrowLeft: -1, ArrowRight: 1, PageUp: 10, PageDown: -10 }[event.key];
    if (move === undefined) return;
    event.preventDefault();
    place((view.cursor === null ? xs.length - 1 : nearest(xs, view.cursor)) + move);
  });
  refill(plot, root);
}

function path(xs, ys, sx, sy) {
  let d = "";
  for (let i = 0; i < xs.length; i += 1) {
    d += `${i ? "L" : "M"}${sx(xs[i]).toFixed(1)} ${sy(ys[i]).toFixed(1)}`;
  }
  return d;
}
