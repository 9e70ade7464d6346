// The rows of the data: searched, filtered, and each with where it comes from.

const ROW_FACTS = ["operator", "teacher", "round", "kind"];
const ROW_TAGS = ["language", "group", "category", "source"];

// The name of a value: languages and task groups have words of their own.
const valueName = (key, value) => known(`dp.${key}.${value}`, value);

// The browser of rows; `open(id)` shows where one comes from. Null where the page has none.
function startRows(lineage, streams) {
  const root = byId("rows-browser");
  if (!root) return null;
  const shown = lineage.rows.filter((row) => !row.ancestor);
  const place = el("div", { class: "open-row" });
  const list = el("div", {});
  refill(root, place, list);
  const view = { place, trail: [], quiet: false };
  const open = (row) => openRow(view, lineage, streams, row, open);
  const browser = new Browser(list, {
    name: "row",
    label: t("section.rows"),
    pageRows: 10,
    items: shown,
    fields: [fileField(lineage, shown), ...["language", "source", "group", "category", "operator"].map((key) => named(valueField(shown, key, t(`dp.field.${key}`)), `dp.${key}`))],
    texts: (row) => [row.id, ...row.turns.map((turn) => turn.text), ...row.parents],
    counted: (count) => t("dp.rows_shown", { shown: whole(count), total: whole(shown.length) }),
    card: (row, pattern) => rowCard(row, pattern, open),
  });
  const byName = (id) => {
    const row = rowNamed(lineage.index, id);
    if (row) open(row);
    else refill(place, el("p", { class: "empty", role: "status" }, t("dp.row_unknown", { id })));
    if (!view.quiet) place.scrollIntoView({ block: "start" });
  };
  if (get("row.id")) {
    // Shown where it stands; whoever reads another part stays there.
    const at = state.at;
    view.quiet = at !== "rows";
    byName(get("row.id"));
    view.quiet = false;
    state.at = at;
    set({});
  }
  return { browser, open: byName };
}

// The files, with how many of their rows are here.
function fileField(lineage, shown) {
  const names = Object.keys(lineage.files).filter((name) => shown.some((row) => row.file === name));
  const label = (name) => `${known(`dp.file.${name}`, known(`dp.file.${name.replace("curate/", "")}`, name))} (${whole(lineage.files[name].shown)})`;
  return {
    key: "file",
    label: t("dp.field.file"),
    choices: [["", t("dp.any")], ...names.map((name) => [name, label(name)])],
    fits: (row, value) => row.file === value,
  };
}

// One row above the list, with its story; the way back through the rows that were open before.
function openRow(view, lineage, streams, row, open) {
  bringIn(view.place);
  const before = view.trail.at(-1);
  if (before !== row) view.trail.push(row);
  state.at = "rows";
  set({ "row.id": row.id });
  const close = () => {
    view.trail = [];
    set({ "row.id": "" });
    view.place.replaceChildren();
  };
  const back = () => {
    view.trail.pop();
    open(view.trail.at(-1));
  };
  const heading = el("h4", { tabindex: -1 }, t("dp.story"), " ", el("code", {}, el("bdi", {}, row.id)));
  refill(
    view.place,
    el(
      "article",
      { class: "entry opened", "aria-label": `${t("dp.story")} ${row.id}` },
      el(
        "header",
        {},
        heading,
        el("span", { class: "tag" }, el("bdi", {}, row.file)),
        el(
          "span",
          { class: "entry-tools" },
          view.trail.length > 1 ? el("button", { type: "button", on: { click: back } }, `← ${t("dp.back")}`) : null,
          el("button", { type: "button", on: { click: close } }, t("dp.close")),
        ),
      ),
      turnList(row, null),
      rowFacts(row),
      lineagePanel(lineage, streams, row, open),
    ),
  );
  if (view.quiet) return;
  heading.focus({ preventScroll: true });
  view.place.scrollIntoView({ block: "nearest" });
}

function rowCard(row, pattern, open) {
  return el(
    "article",
    { class: "entry" },
    el(
      "header",
      {},
      ROW_TAGS.filter((key) => row[key] !== undefined).map((key) => tag(valueName(key, row[key]), t(`dp.field.${key}`))),
      row.rule === undefined ? null : tag(ruleName(labelled(row)), t("dp.rule")),
      el("code", { class: "entry-id" }, row.id),
    ),
    turnList(row, pattern),
    rowFacts(
      row,
      el("button", { type: "button", class: "link", on: { click: () => open(row) } }, t("dp.where_from"), el("span", { class: "visually-hidden" }, ` ${row.id}`)),
    ),
  );
}

function turnList(row, pattern) {
  return el(
    "div",
    { class: "turns" },
    row.turns.map((turn) =>
      el(
        "div",
        { class: "turn", "data-role": turn.role },
        el("h4", {}, el("bdi", {}, known(`dp.role.${turn.role}`, turn.role))),
        rowText(turn.text, pattern),
      ),
    ),
  );
}

function rowFacts(row, button = null) {
  const facts = ROW_FACTS.filter((key) => row[key] !== undefined).map((key) =>
    el("span", { class: "item" }, `${t(`dp.field.${key}`)} `, el("b", {}, el("bdi", {}, row[key]))),
  );
  const marks = Object.entries(row.quality).map(([name, value]) =>
    el("span", { class: "item" }, el("bdi", {}, name), " ", el("b", { class: "num" }, markText(value))),
  );
  const parents = row.parents.length ? el("span", { class: "item" }, t("dp.made_from", { count: whole(row.parents.length) })) : null;
  if (!facts.length && !marks.length && !parents && !button) return null;
  return el("p", { class: "row-facts" }, button, facts, parents, marks);
}

function markText(value) {
  if (typeof value === "boolean") return value ? t("dp.yes") : t("dp.no");
  return compact(value);
}
