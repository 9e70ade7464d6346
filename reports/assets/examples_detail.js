// What an open example shows besides its texts: all scores, a judge's marks with reasons, what it
// said of each pair.

// Scores above which a rubric's fields are no marks.
const NO_MARKS = new Set(["id", "model", "rubric", "reason", "reply", "unread"]);

function exampleDetails(page, row) {
  return [groupsOf(page, row), scoresOf(page, row), verdictsOf(page, row), lineageLink(page.answers.id(row))];
}

// What this set says of the prompt; a click narrows to such prompts.
function groupsOf(page, row) {
  const { answers } = page;
  const found = answers.columns
    .filter((name) => name !== "language" && name !== "category")
    .map((name) => [name, answers.column(name)[row]])
    .filter(([, value]) => value !== null && value !== "");
  if (!found.length) return null;
  const button = ([name, value]) =>
    smallButton(
      [el("bdi", {}, columnWords(name) + t("examples.colon") + groupLabel(value))],
      () => page.setValue({ kind: "is", column: name, values: [value] }, true),
      { title: t("examples.filter_by") },
    );
  return el("p", { class: "group-links" }, found.map(button));
}

function scoresOf(page, row) {
  const { answers } = page;
  const models = page.shown;
  const known = answers.metrics.filter((metric) => models.some((model) => isNumber(answers.values(metric.name, model)[row])));
  const facts = ["tokens", "seconds", "finish_reason"].filter((name) =>
    models.some((model) => factOf(answers, name, model, row) !== null),
  );
  if (!known.length && !facts.length) return null;
  const line = (label, cell, chosen) =>
    el(
      "tr",
      { class: chosen ? "chosen" : null },
      el("th", { scope: "row" }, label),
      models.map((model) => el("td", { class: "num" }, cell(model))),
    );
  return el(
    "div",
    { class: "score-table", tabindex: "0", role: "region", "aria-label": t("answers.scores") },
    el(
      "table",
      {},
      el("caption", { class: "visually-hidden" }, t("answers.scores")),
      el(
        "thead",
        {},
        el("tr", {}, el("td", {}), models.map((model) => el("th", { scope: "col", class: "num" }, el("bdi", {}, page.label(model))))),
      ),
      el(
        "tbody",
        {},
        known.map((metric) =>
          line(metric.label, (model) => rowNumber(metric, answers.values(metric.name, model)[row]), metric.name === page.ask.metric),
        ),
        facts.map((name) => line(t(`answers.fact_${name}`), (model) => factShown(factOf(answers, name, model, row)), false)),
      ),
    ),
  );
}

function factOf(answers, name, model, row) {
  const value = answers.facts(name, model)?.[row] ?? null;
  return Number.isNaN(value) ? null : value;
}

const factShown = (value) => (value === null ? "–" : isNumber(value) ? compact(value) : el("bdi", {}, value));

// --- the judge ------------------------------------------------------------------------------------

// The marks of one answer, one rubric after the other, with the reason that the judge gave.
function markNotes(page, model, row) {
  return page.answers.marks(model, row).map((note) => {
    const marks = Object.entries(note).filter(([name]) => !NO_MARKS.has(name));
    return el(
      "div",
      { class: "judge-note" },
      el("h5", {}, t("examples.judge_marks"), " ", el("bdi", { class: "quiet" }, note.rubric)),
      note.unread
        ? el("p", { class: "quiet" }, t("examples.unread"))
        : el("p", { class: "judge-marks" }, marks.map(([name, value]) => el("span", {}, el("bdi", {}, known(`criterion.${name}`, name)), " ", el("b", { class: "num" }, markShown(value))))),
      saidText(page, note.unread ? note.reply : note.reason),
    );
  });
}

const markShown = (value) => (typeof value === "boolean" ? (value ? `✓ ${t("answers.yes")}` : `✗ ${t("answers.no")}`) : String(value));

const saidText = (page, text) =>
  text ? el("p", { class: "text said", dir: "auto" }, highlighted(String(text), page.ask.pattern, UNFOLDED.marks)) : null;

function verdictsOf(page, row) {
  const said = page.answers.verdicts(row);
  if (!said.length) return null;
  return el(
    "div",
    { class: "verdict-notes" },
    el("h4", {}, t("examples.judge_pairs")),
    said.map((one) =>
      el(
        "details",
        { class: "judge-note" },
        el("summary", {}, verdictWords(page, one)),
        one.equal ? null : el("p", { class: "quiet" }, ordersWords(page, one)),
        (one.replies ?? []).map((reply, i) => [
          el("h5", {}, t("examples.shown_first", { model: page.label(i === 0 ? one.model : one.baseline) })),
          saidText(page, reply),
        ]),
      ),
    ),
  );
}

function verdictWords(page, { model, baseline, winner, equal }) {
  const names = { a: page.label(model), b: page.label(baseline) };
  if (equal) return t("examples.pair_equal", names);
  if (winner === null || winner === undefined) return t("examples.pair_unread", names);
  if (winner === "tie") return t("examples.pair_tie", names);
  return t("examples.pair_won", { winner: page.label(winner), loser: page.label(winner === model ? baseline : model) });
}

function ordersWords(page, one) {
  const named = (winner) => (winner === "tie" ? t("examples.tie") : winner ? page.label(winner) : t("examples.nothing_read"));
  const key = one.model_first && one.model_first === one.baseline_first ? "examples.orders_agree" : "examples.orders";
  return t(key, {
    a: page.label(one.model),
    b: page.label(one.baseline),
    first: named(one.model_first),
    second: named(one.baseline_first),
  });
}
