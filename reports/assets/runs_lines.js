// A chart of many lines, one a run or a mean with its band; the nearest line is read out.

const RUN_LINES_HEIGHT = 200;

// chart: { title, note, log, lines: [{ label, series, x, y, low, high }] }
function runLinesChart(chart) {
  const read = el("span", { class: "quiet num" }, chart.note);
  const plot = el("div", { class: "plot" });
  const figure = el(
    "figure",
    { class: "card chart many" },
    el("figcaption", {}, el("span", { class: "chart-title" }, chart.title), read),
    plot,
  );
  const view = { line: 0, step: null, read, note: chart.note };
  new ResizeObserver(([entry]) => drawRunLines(plot, chart, view, Math.floor(entry.contentRect.width))).observe(plot);
  return figure;
}

function drawRunLines(plot, chart, view, width) {
  if (width < 60 || !chart.lines.length) return;
  const [xLow, xHigh] = range(chart.lines.flatMap((line) => line.x));
  const axis = axisOf(chart.lines.flatMap((line) => [...line.y, ...(line.low ?? []), ...(line.high ?? [])]), chart.log);
  const left = 13 + 6.6 * Math.max(...axis.labels.map((label) => label.length));
  const box = { left, right: width - 8, top: 8, bottom: RUN_LINES_HEIGHT - 22 };
  const sx = (x) => box.left + ((x - xLow) / (xHigh - xLow)) * (box.right - box.left);
  const sy = (y) => {
    const place = axis.place(y);
    return place === null ? null : box.bottom - place * (box.bottom - box.top);
  };
  const steps = ticks(xLow, xHigh, Math.max(2, Math.floor(width / 60)));
  const names = tickLabels(steps);
  const cursor = svg("g", { class: "cursor", visibility: "hidden" });
  const paths = chart.lines.map((line) => svg("path", { class: `line s${line.series}`, d: path(line.x, line.y, sx, sy) }));
  const root = svg(
    "svg",
    { width, height: RUN_LINES_HEIGHT, tabindex: 0, role: "img", "aria-label": chart.title },
    axis.ticks.map((value, i) => [
      svg("line", { class: "grid", x1: box.left, x2: box.right, y1: sy(value), y2: sy(value) }),
      svg("text", { x: box.left - 6, y: sy(value) + 3.5, "text-anchor": "end" }, axis.labels[i]),
    ]),
    steps.map((value, i) =>
      svg("text", { x: sx(value), y: RUN_LINES_HEIGHT - 6, "text-anchor": sx(value) > box.right - 14 ? "end" : "middle" }, names[i]),
    ),
    chart.lines.map((line) => (line.low ? svg("path", { class: `band s${line.series}`, d: bandPath(line.x, line.low, line.high, sx, sy) }) : null)),
    paths,
    cursor,
  );
  const show = () => {
    const off = view.step === null;
    cursor.setAttribute("visibility", off ? "hidden" : "visible");
    paths.forEach((drawn, i) => drawn.classList.toggle("back", !off && i !== view.line));
    view.read.textContent = off ? view.note : lineText(chart.lines[view.line], view.step);
    if (off) return;
    const line = chart.lines[view.line];
    const at = nearest(line.x, view.step);
    refill(
      cursor,
      svg("line", { x1: sx(line.x[at]), x2: sx(line.x[at]), y1: box.top, y2: box.bottom }),
      svg("circle", { class: `dot s${line.series}`, cx: sx(line.x[at]), cy: sy(line.y[at]) ?? box.bottom, r: 3.6 }),
    );
  };
  root.addEventListener("pointermove", (event) => {
    const inside = root.getBoundingClientRect();
    const x = xLow + ((event.clientX - inside.left - box.left) / (box.right - box.left)) * (xHigh - xLow);
    const y = event.clientY - inside.top;
    const gaps = chart.lines.map((line) => Math.abs((sy(line.y[nearest(line.x, x)]) ?? Infinity) - y));
    view.line = gaps.indexOf(Math.min(...gaps));
    view.step = chart.lines[view.line].x[nearest(chart.lines[view.line].x, x)];
    show();
  });
  const leave = () => { view.step = null; show(); };
  root.addEventListener("pointerleave", leave);
  root.addEventListener("blur", leave);
  root.addEventListener("keydown", (event) => {
    if (!moveCursor(chart.lines, view, event.key)) return;
    event.preventDefault();
    show();
  });
  view.step = null;
  refill(plot, root);
}

// Left and right go along a line, up and down to another one; false for any other key.
function moveCursor(lines, view, key) {
  const along = { ArrowLeft: -1, ArrowRight: 1, PageUp: 10, PageDown: -10 }[key];
  const across = { ArrowUp: -1, ArrowDown: 1 }[key];
  if (along === undefined && across === undefined) return false;
  view.line = (view.line + (across ?? 0) + lines.length) % lines.length;
  const xs = lines[view.line].x;
  const at = view.step === null ? xs.length - 1 : nearest(xs, view.step) + (along ?? 0);
  view.step = xs[Math.min(xs.length - 1, Math.max(0, at))];
  return true;
}

function lineText(line, step) {
  const at = nearest(line.x, step);
  const range = line.low ? ` [${compact(line.low[at])}, ${compact(line.high[at])}]` : "";
  return `${t("runs.readout", { step: whole(line.x[at]) })} · ${line.label}: ${compact(line.y[at])}${range}`;
}
