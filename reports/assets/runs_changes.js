// The table of the options in which the runs differ: options down, runs across.

function startChanges(core) {
  const view = byId("changes-view");
  if (!view) return;
  const seeds = core.changes.some((change) => change.seed);
  const table = el("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": t("section.changes") });
  const count = el("span", { class: "quiet status", role: "status" });
  const draw = () => {
    const found = shownChanges(core.changes, get("key"), get("seeds") === "1");
    refill(table, changesTable(core, found));
    count.textContent = t("runs.changes_count", { shown: found.length, total: core.changes.length });
  };
  const find = el("input", { type: "search", name: "key", value: get("key") });
  find.addEventListener("input", debounce(120, () => { set({ key: find.value }); draw(); }));
  const box = el("input", { type: "checkbox", name: "seeds", checked: get("seeds") === "1" });
  box.addEventListener("change", () => { set({ seeds: box.checked ? "1" : "" }); draw(); });
  refill(
    view,
    el(
      "div",
      { class: "fields runs-fields" },
      el("label", { class: "field" }, el("span", {}, t("runs.changes_find")), find),
      seeds ? el("label", { class: "check" }, box, " ", t("runs.changes_seeds")) : null,
      count,
    ),
    table,
  );
  draw();
}

// Options whose key or one of whose values holds the text, in any case; seeds only on request.
function shownChanges(changes, text, seeds) {
  const wanted = text.toLowerCase();
  return changes.filter(
    (change) =>
      (seeds || !change.seed) &&
      (!wanted || [change.key, ...change.values].some((part) => (part ?? "").toLowerCase().includes(wanted))),
  );
}

// Runs that agree in all these options share a column.
function sharedColumns(changes, runs) {
  const columns = new Map();
  for (let run = 0; run < runs; run += 1) {
    const key = JSON.stringify(changes.map((change) => change.values[run]));
    if (!columns.has(key)) columns.set(key, []);
    columns.get(key).push(run);
  }
  return [...columns.values()];
}

function changesTable(core, changes) {
  const seeds = get("seeds") === "1";
  const columns = sharedColumns(core.changes.filter((change) => seeds || !change.seed), core.runs.length);
  return el(
    "table",
    { class: "changes" },
    el(
      "thead",
      {},
      el(
        "tr",
        {},
        el("th", { scope: "col", class: "sticky" }, t("runs.changes_key")),
        columns.map((runs) => el("th", { scope: "col" }, el("ul", {}, runs.map((run) => el("li", {}, runName(core, run)))))),
      ),
    ),
    el(
      "tbody",
      {},
      changes.map((change) =>
        el(
          "tr",
          {},
          el("th", { scope: "row", class: "sticky" }, el("code", {}, breakable(change.key))),
          columns.map((runs, i) => changeCell(change, change.values[runs[0]], i)),
        ),
      ),
    ),
  );
}

function changeCell(change, value, i) {
  const same = i > 0 && value === change.values[0];
  if (value === null) return el("td", { class: same ? "quiet" : null }, el("em", {}, t("runs.absent")));
  return el("td", { class: same ? "quiet" : null }, el("code", {}, el("bdi", {}, value)));
}

// A dotted key may be broken before its points.
function breakable(key) {
  return key.split(/(?=[.[])/).flatMap((part) => [el("wbr"), part]);
}

function runName(core, i) {
  return [el("span", { class: `dot-label s${seriesAt(i)}`, "aria-hidden": "true" }), el("bdi", {}, core.runs[i].label)];
}

// The colour of a run, a setting or a line by its place; the grey of the first colour comes late.
const seriesAt = (place) => (place + 2) % 10;
