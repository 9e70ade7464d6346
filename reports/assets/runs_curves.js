// Learning curves of all runs: stage, single runs or means of repeats, colours, scale; runs can
// be taken off.

function startRunCurves(core) {
  const view = byId("curves-view");
  if (!view || !core.curves.length) return;
  const repeated = core.settings.some((setting) => setting.runs.length > 1);
  const chosen = readCurveChoice(core, repeated);
  const charts = el("div", { class: "cards charts", id: "run-curves" });
  const more = el("div", { class: "cards charts" });
  const details = el("details", { class: "more" }, el("summary", {}, t("training.more")), more);
  const keys = el("div", { class: "run-keys", role: "group", "aria-label": t("section.runs") });
  const note = el("p", { class: "quiet" });
  const draw = () => {
    const stage = core.curves.find((one) => one.stage === chosen.stage);
    refill(keys, keyButtons(core, chosen, draw));
    const made = (minor) =>
      stage.charts.filter((chart) => chart.minor === minor).map((chart) => curveChart(core, chart, chosen)).filter(Boolean);
    refill(charts, made(false));
    const rest = made(true);
    details.hidden = !rest.length;
    refill(more, rest);
    note.textContent = chosen.lines === "means" ? t("runs.band_note") : "";
  };
  const choose = (name, value, usual) => {
    chosen[name] = value;
    set({ [name]: value }, { [name]: usual });
    draw();
  };
  const usual = usualCurveChoice(core, repeated);
  refill(
    view,
    el(
      "div",
      { class: "fields runs-fields" },
      core.curves.length > 1
        ? field(t("runs.stage"), core.curves.map((one) => [one.stage, one.label]), chosen.stage, (value) => choose("stage", value, usual.stage), { name: "stage" })
        : null,
      repeated
        ? field(t("runs.lines"), [["runs", t("runs.lines_runs")], ["means", t("runs.lines_means")]], chosen.lines, (value) => choose("lines", value, usual.lines), { name: "lines" })
        : null,
      repeated
        ? field(t("runs.colour"), [["run", t("runs.colour_run")], ["setting", t("runs.colour_setting")]], chosen.colour, (value) => choose("colour", value, usual.colour), { name: "colour" })
        : null,
      field(t("runs.scale"), [["linear", t("runs.scale_linear")], ["log", t("runs.scale_log")]], chosen.scale, (value) => choose("scale", value, "linear"), { name: "scale" }),
    ),
    keys,
    note,
    charts,
    details,
  );
  draw();
}

function usualCurveChoice(core, repeated) {
  return {
    stage: core.curves.at(-1).stage,
    lines: repeated ? "means" : "runs",
    colour: repeated ? "setting" : "run",
    scale: "linear",
  };
}

function readCurveChoice(core, repeated) {
  const usual = usualCurveChoice(core, repeated);
  const one = (name, allowed) => (allowed.includes(get(name)) ? get(name) : usual[name]);
  const off = new Set(get("off").split(",").filter((part) => /^\d+$/.test(part)).map(Number));
  return {
    stage: one("stage", core.curves.map((stage) => stage.stage)),
    lines: repeated ? one("lines", ["runs", "means"]) : "runs",
    colour: repeated ? one("colour", ["run", "setting"]) : "run",
    scale: one("scale", ["linear", "log"]),
    off,
  };
}

// What the keys stand for: settings where lines are means or coloured by setting, else runs.
const bySettings = (chosen) => chosen.lines === "means" || chosen.colour === "setting";

function keyButtons(core, chosen, draw) {
  const items = bySettings(chosen)
    ? core.settings.map((setting, i) => ({ label: setting.label, series: seriesAt(i), runs: setting.runs }))
    : core.runs.map((run, i) => ({ label: run.label, series: seriesAt(i), runs: [i] }));
  return items.map((item, place) => {
    const on = item.runs.some((run) => !chosen.off.has(run));
    const flip = () => {
      for (const run of item.runs) {
        if (on) chosen.off.add(run);
        else chosen.off.delete(run);
      }
      set({ off: [...chosen.off].sort((a, b) => a - b).join(",") });
      draw();
      document.querySelectorAll(".run-keys button")[place]?.focus();
    };
    return el(
      "button",
      { type: "button", "aria-pressed": String(on), on: { click: flip } },
      el("span", { class: `swatch s${item.series}` }),
      el("bdi", {}, item.label),
    );
  });
}

function curveChart(core, chart, chosen) {
  const lines = chosen.lines === "means" ? meanLines(core, chart, chosen) : runLines(core, chart, chosen);
  if (!lines.length) return null;
  return runLinesChart({
    title: chart.part ? `${chart.title} · ${chart.part}` : chart.title,
    note: t("training.by_step"),
    log: chosen.scale === "log",
    lines,
  });
}

function runLines(core, chart, chosen) {
  return chart.lines
    .filter((line) => !chosen.off.has(line.run))
    .map((line) => ({
      ...line,
      label: core.runs[line.run].label,
      series: seriesAt(chosen.colour === "setting" ? settingOf(core, line.run) : line.run),
    }));
}

// A setting without repeats is its one line.
function meanLines(core, chart, chosen) {
  const bands = new Map(chart.bands.map((band) => [band.setting, band]));
  return core.settings.flatMap((setting, i) => {
    if (setting.runs.every((run) => chosen.off.has(run))) return [];
    const own = bands.get(i);
    if (own) return [{ ...own, label: setting.label, series: seriesAt(i) }];
    return chart.lines
      .filter((line) => setting.runs.includes(line.run))
      .map((line) => ({ ...line, label: setting.label, series: seriesAt(i) }));
  });
}

const settingOf = (core, run) => core.settings.findIndex((setting) => setting.runs.includes(run));
