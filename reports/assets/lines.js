// Line charts drawn at the width that they have, with a read-out in the legend, and alarms where
// they fired. Charts of one group read out the same step.

const LINE_HEIGHT = 190;
const PLOT = { right: 8, top: 8, bottom: 22 };

// `view`: { share, log }, how the curves are drawn; `group`: a list that the chart joins.
// Returns the figure; the chart itself is { figure, redraw, show }.
function lineChart(chart, view, group) {
  const parts = frameOf(chart);
  const self = { chart, view, parts, figure: parts.figure, cursor: null, series: [], width: 0 };
  self.redraw = () => {
    self.series = chart.series.map((item, index) => ({ ...item, index, smooth: smoothed(item.y, view.share) }));
    if (self.width >= 40) drawLines(self, group);
    readOut(self);
  };
  // Puts the cursor at a step (null: nowhere), without telling the others.
  self.show = (step) => {
    self.cursor = step;
    moveCursor(self);
    readOut(self);
  };
  group.push(self);
  new ResizeObserver(([entry]) => {
    self.width = Math.floor(entry.contentRect.width);
    self.redraw();
  }).observe(parts.plot);
  self.redraw();
  return parts.figure;
}

function frameOf(chart) {
  const values = el("span", { class: "quiet num" });
  const outputs = chart.series.map(() => el("span", { class: "num" }));
  const legend = el(
    "div",
    { class: "legend-row" },
    chart.series.map((item, i) =>
      el("span", { class: "key" }, el("span", { class: `swatch s${i}` }), item.label, " ", outputs[i]),
    ),
  );
  const fired = el("p", { class: "curve-fired", hidden: true });
  const linear = el("p", { class: "curve-linear", hidden: true }, t("training.linear"));
  const plot = el("div", { class: "plot" });
  const figure = el(
    "figure",
    { class: "card chart", "data-chart": chart.key },
    el("figcaption", {}, el("span", { class: "chart-title" }, chart.title), values),
    legend,
    linear,
    el("div", { class: "plot-frame" }, plot, fired),
  );
  return { figure, values, outputs, fired, linear, plot };
}

// Step and values at the cursor, or the last ones; the alarm that fired there.
function readOut(self) {
  const { parts, series, cursor, chart } = self;
  parts.values.textContent = cursor === null ? t("training.by_step") : t("training.step", { step: whole(cursor) });
  series.forEach((item, i) => {
    const at = cursor === null ? item.x.length - 1 : nearest(item.x, cursor);
    const around = item.low ? ` [${compact(item.low[at])}, ${compact(item.high[at])}]` : "";
    parts.outputs[i].textContent = compact(item.y[at]) + around;
  });
  const mark = cursor === null ? null : chart.marks.find(({ from, to }) => from <= cursor && cursor <= to);
  parts.fired.hidden = !mark;
  parts.fired.textContent = mark ? `▲ ${mark.message}` : "";
  parts.linear.hidden = !(self.view.log && self.axis && !self.axis.log);
  sayValues(self);
}

function drawLines(self, group) {
  const { chart, series, width, parts } = self;
  const [xLow, xHigh] = range(series.flatMap((item) => item.x));
  const axis = axisOf(series.flatMap((item) => [...item.y, ...(item.low ?? []), ...(item.high ?? [])]), self.view.log);
  const left = 13 + 6.6 * Math.max(...axis.labels.map((label) => label.length));
  const box = { left, right: width - PLOT.right, top: PLOT.top, bottom: LINE_HEIGHT - PLOT.bottom };
  const sx = (x) => box.left + ((x - xLow) / (xHigh - xLow)) * (box.right - box.left);
  const sy = (y) => {
    const share = axis.place(y);
    return share === null ? null : box.bottom - share * (box.bottom - box.top);
  };
  self.axis = axis;
  self.scale = { sx, sy, box };
  self.layer = svg("g", { class: "cursor", visibility: "hidden" });
  const root = svg(
    "svg",
    {
      width, height: LINE_HEIGHT, tabindex: 0, role: "slider", "aria-label": chart.title,
      "aria-description": alarmText(chart), "aria-valuemin": xLow, "aria-valuemax": xHigh,
    },
    axis.ticks.map((value, i) => [
      svg("line", { class: "grid", x1: box.left, x2: box.right, y1: sy(value), y2: sy(value) }),
      svg("text", { x: box.left - 6, y: sy(value) + 3.5, "text-anchor": "end" }, axis.labels[i]),
    ]),
    stepLabels(xLow, xHigh, width, sx, box),
    series.map((item) => seriesMarks(item, sx, sy)),
    chart.marks.map((mark) => alarmMark(mark, series[0], self.scale)),
    self.layer,
  );
  listen(root, self, group, (share) => xLow + ((share - box.left) / (box.right - box.left)) * (xHigh - xLow));
  self.root = root;
  const focused = parts.plot.contains(document.activeElement);
  refill(parts.plot, root);
  if (focused) root.focus({ preventScroll: true });
  moveCursor(self);
  sayValues(self);
}

// What a screen reader says of the step at the cursor.
function sayValues(self) {
  if (!self.root) return;
  const { values, outputs, fired } = self.parts;
  const said = self.chart.series.map((item, i) => `${item.label} ${outputs[i].textContent}`);
  if (!fired.hidden) said.push(fired.textContent);
  const steps = stepsOf(self);
  self.root.setAttribute("aria-valuenow", self.cursor === null ? steps.at(-1) : self.cursor);
  self.root.setAttribute("aria-valuetext", [values.textContent, ...said].join("; "));
}

const alarmText = (chart) => chart.marks.map((mark) => `${t("training.step", { step: whole(mark.from) })}: ${mark.message}`).join(". ");

function stepLabels(xLow, xHigh, width, sx, box) {
  const marks = ticks(xLow, xHigh, Math.max(2, Math.floor(width / 60)));
  const labels = tickLabels(marks);
  return marks.map((value, i) =>
    svg("text", { x: sx(value), y: LINE_HEIGHT - 6, "text-anchor": sx(value) > box.right - 14 ? "end" : "middle" }, labels[i]),
  );
}

function seriesMarks(item, sx, sy) {
  return [
    item.low ? svg("path", { class: `band s${item.index}`, d: bandPath(item.x, item.low, item.high, sx, sy) }) : null,
    svg("path", { class: `line s${item.index}${item.smooth ? " raw" : ""}`, d: path(item.x, item.y, sx, sy) }),
    item.smooth ? svg("path", { class: `line s${item.index}`, d: path(item.x, item.smooth, sx, sy) }) : null,
    item.x.length <= 40 && item.split !== "train"
      ? item.x.map((x, i) => (sy(item.y[i]) === null ? null : svg("circle", { class: `dot s${item.index}`, cx: sx(x), cy: sy(item.y[i]), r: 2.2 })))
      : null,
  ];
}

// Where an alarm fired: a line at the first step, a tint to the last, a triangle on the curve.
function alarmMark(mark, item, { sx, sy, box }) {
  const at = nearest(item.x, mark.from);
  const [x, end, y] = [sx(item.x[at]), sx(item.x[nearest(item.x, mark.to)]), sy(item.y[at])];
  return svg(
    "g",
    { class: "alarm" },
    svg("title", {}, `${t("training.step", { step: whole(mark.from) })}: ${mark.message}`),
    end > x ? svg("rect", { class: "alarm-span", x, width: end - x, y: box.top, height: box.bottom - box.top }) : null,
    svg("line", { class: "alarm-line", x1: x, x2: x, y1: box.top, y2: box.bottom }),
    y === null ? null : svg("path", { class: "alarm-sign", d: `M${x - 6} ${y - 6}L${x + 6} ${y - 6}L${x} ${y + 3}Z` }),
  );
}

// The line and the dots at the cursor.
function moveCursor(self) {
  if (!self.layer) return;
  self.layer.setAttribute("visibility", self.cursor === null ? "hidden" : "visible");
  if (self.cursor === null) return;
  const { sx, sy, box } = self.scale;
  const steps = stepsOf(self);
  const x = sx(steps[nearest(steps, self.cursor)]);
  refill(
    self.layer,
    svg("line", { x1: x, x2: x, y1: box.top, y2: box.bottom }),
    self.series.map((item) => {
      const at = nearest(item.x, self.cursor);
      const y = sy(item.y[at]);
      return y === null ? null : svg("circle", { class: `dot s${item.index}`, cx: sx(item.x[at]), cy: y, r: 3.2 });
    }),
  );
}

// The steps that the cursor stops at: those of the longest series.
const stepsOf = (self) => self.series.reduce((a, b) => (b.x.length > a.x.length ? b : a)).x;

function listen(root, self, group, stepAt) {
  const steps = stepsOf(self);
  const place = (index) => {
    const step = index === null ? null : steps[Math.min(steps.length - 1, Math.max(0, index))];
    for (const one of group) one.show(step);
  };
  root.addEventListener("pointermove", (event) => {
    place(nearest(steps, stepAt(event.clientX - root.getBoundingClientRect().left)));
  });
  for (const type of ["pointerleave", "blur"]) root.addEventListener(type, () => place(null));
  root.addEventListener("keydown", (event) => {
    const now = self.cursor === null ? steps.length - 1 : nearest(steps, self.cursor);
    const target = {
      ArrowLeft: now - 1, ArrowRight: now + 1, PageUp: now + 10, PageDown: now - 10, Home: 0, End: steps.length - 1,
    }[event.key];
    if (target === undefined) return;
    event.preventDefault();
    place(target);
  });
}
