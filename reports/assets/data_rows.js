// A sample of the rows themselves, with where each came from.

const LINEAGE = ["operator", "teacher", "round", "kind"];

function startRows(rows) {
  const root = byId("rows-browser");
  if (!root) return null;
  const known = new Set(rows.map((row) => row.id));
  const browser = new Browser(root, {
    name: "row",
    label: t("section.rows"),
    pageRows: 10,
    items: rows,
    fields: ["language", "source", "group", "category", "operator"].map((key) => valueField(rows, key, t(`dp.field.${key}`))),
    texts: (row) => [row.id, ...row.turns.map((turn) => turn.text), ...row.parents],
    counted: (shown) => t("dp.rows_shown", { shown: whole(shown), total: whole(rows.length) }),
    card: (row, pattern) => rowCard(row, pattern, known, (id) => showRow(browser, id)),
  });
  return browser;
}

// A parent is looked up by its id; the other choices would hide it.
function showRow(browser, id) {
  const cleared = Object.fromEntries(browser.fields.map((item) => [item.key, ""]));
  const plain = id.replace(/[\\^$.*+?()[\]{}|/-]/g, "\\$&");
  set(Object.fromEntries(Object.entries({ ...cleared, page: "", q: plain }).map(([key, value]) => [browser.key(key), value])));
  browser.draw();
  browser.status.scrollIntoView({ block: "start" });
}

function rowCard(row, pattern, known, show) {
  const about = ["language", "group", "category", "source"].filter((key) => row[key] !== undefined);
  return el(
    "article",
    { class: "row" },
    el(
      "header",
      {},
      about.map((key) => tag(row[key], t(`dp.field.${key}`))),
      el("code", { class: "row-id" }, row.id),
    ),
    el(
      "div",
      { class: "turns" },
      row.turns.map((turn) =>
        el(
          "div",
          { class: "turn", "data-role": turn.role },
          el("h4", {}, el("bdi", {}, STRINGS[`dp.role.${turn.role}`] ?? turn.role)),
          longText("text", turn.text, pattern, LONG_PROMPT),
        ),
      ),
    ),
    lineage(row, known, show),
  );
}

function lineage(row, known, show) {
  const facts = LINEAGE.filter((key) => row[key] !== undefined).map((key) =>
    el("span", { class: "item" }, `${t(`dp.field.${key}`)} `, el("b", {}, el("bdi", {}, row[key]))),
  );
  const scores = Object.entries(row.quality).map(([name, value]) =>
    el("span", { class: "item" }, el("bdi", {}, name), " ", el("b", { class: "num" }, quality(value))),
  );
  const parents = row.parents.map((id) =>
    known.has(id)
      ? el("button", { type: "button", class: "link", on: { click: () => show(id) } }, el("code", {}, id))
      : el("code", {}, id),
  );
  if (!facts.length && !scores.length && !parents.length) return null;
  return el(
    "footer",
    { class: "lineage" },
    facts,
    parents.length ? el("span", { class: "item parents" }, `${t("dp.parents")} `, parents) : null,
    scores,
  );
}

function quality(value) {
  if (typeof value === "boolean") return value ? t("answers.yes") : t("answers.no");
  return compact(value);
}
