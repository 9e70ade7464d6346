// One item to rate, and the controls for it: two answers to choose from, or one to mark.

const VERDICTS = ["A", "tie", "B"];
// Keys besides the arrows; digits stand on every keyboard.
const VERDICT_KEYS = { 1: "A", a: "A", ArrowLeft: "A", 2: "B", b: "B", ArrowRight: "B", 0: "tie", t: "tie", "=": "tie", ArrowUp: "tie" };

const criterionName = (name) => known(`rating.name_${name}`, name.replaceAll("_", " "));

// The prompt and the answers. Texts become text nodes; nothing here says whose they are.
function shownItem(item) {
  const letters = item.answers.length > 1 ? ["A", "B"] : [""];
  return [
    el("section", { class: "rate-prompt" }, el("h4", {}, t("rating.prompt")), plainText(item.prompt)),
    el(
      "div",
      { class: letters.length > 1 ? "rate-pair" : "rate-one" },
      item.answers.map((text, i) => {
        const label = letters[i] ? t("rating.answer_of", { letter: letters[i] }) : t("rating.answer");
        return el("section", { class: "rate-answer" }, el("h4", {}, label), plainText(text));
      }),
    ),
  ];
}

function plainText(text) {
  if (!text.trim()) return el("p", { class: "text quiet" }, t("rating.empty_answer"));
  return el("div", { class: "text", dir: "auto" }, text);
}

// The three verdicts. `choose(verdict)` saves at once.
function pairForm(mine, choose) {
  const button = (verdict) =>
    el(
      "button",
      { type: "button", class: `rate-verdict ${mine?.verdict === verdict ? "chosen" : ""}`, "data-verdict": verdict, "aria-pressed": String(mine?.verdict === verdict), on: { click: () => choose(verdict) } },
      el("span", {}, t(`rating.verdict_${verdict}`)),
      el("kbd", { "aria-hidden": "true" }, { A: "1", tie: "0", B: "2" }[verdict]),
    );
  return el("div", { class: "rate-verdicts", role: "group", "aria-label": t("rating.which_better") }, VERDICTS.map(button));
}

// Marks of one answer: a row of radio buttons for each criterion. Returns {node, marks(), digit()}.
function markForm(rubric, mine, changed) {
  const names = [...rubric.marks, ...rubric.checks];
  // A rubric may have lost a criterion since.
  const marks = new Map(Object.entries(mine?.marks ?? {}).filter(([name]) => names.includes(name)));
  const rows = names.map((name) => {
    const values = rubric.checks.includes(name) ? ["pass", "fail"] : [1, 2, 3, 4, 5];
    const inputs = values.map((value) =>
      el("input", {
        type: "radio",
        name: `mark-${name}`,
        value,
        checked: marks.get(name) === value,
        on: { change: () => { marks.set(name, value); changed(); } },
      }),
    );
    const labels = inputs.map((input, i) => el("label", {}, input, el("span", {}, markLabel(values[i]))));
    const legend = el("legend", {}, criterionName(name));
    const own = Object.hasOwn(rubric.meanings, name) ? rubric.meanings[name] : null;
    const meaning = own ?? known(`rating.meaning_${name}`, "");
    const row = el("fieldset", { class: "rate-mark" }, legend, meaning ? el("p", { class: "quiet" }, meaning) : null, el("div", { class: "rate-scale" }, labels));
    return { name, values, inputs, row };
  });
  const node = el("div", { class: "rate-marks" }, rows.map((row) => row.row));
  // A digit marks the criterion that has the focus, else the first that has none, and goes on.
  const digit = (number) => {
    const focused = rows.findIndex((row) => row.row.contains(document.activeElement));
    const at = focused >= 0 ? focused : rows.findIndex((row) => !marks.has(row.name));
    const row = rows[at];
    if (!row || number < 1 || number > row.values.length) return false;
    row.inputs[number - 1].checked = true;
    marks.set(row.name, row.values[number - 1]);
    const following = rows[at + 1]?.inputs;
    (following ? (following.find((input) => input.checked) ?? following[0]) : row.inputs[number - 1]).focus();
    changed();
    return true;
  };
  return { node, digit, marks: () => Object.fromEntries(marks), full: () => marks.size === rows.length };
}

const markLabel = (value) => (typeof value === "string" ? t(`rating.check_${value}`) : String(value));

// How far each rater is, and how far they agree.
function progressTables(progress) {
  const alpha = (one) =>
    one.alpha !== null ? fixed(one.alpha, 2) : one.items ? t("rating.no_spread") : t("rating.not_twice");
  return progress.parts.filter((part) => part.rated).map((part) =>
    el(
      "section",
      { class: "rate-progress" },
      el("h4", {}, partName(part.part), " ", el("span", { class: "quiet" }, t("rating.rated_of", { rated: whole(part.rated), items: whole(part.items) }))),
      el(
        "div",
        { class: "rate-tables" },
        table([t("rating.rater"), t("rating.ratings")], part.raters.map((one) => [el("bdi", {}, one.name), whole(one.done)])),
        table(
          [t("rating.agreement"), t("rating.alpha"), t("rating.equal"), t("rating.items")],
          part.agreement.map((one) => [
            one.what === PAIRS ? t("rating.verdicts") : criterionName(one.what),
            alpha(one),
            one.equal === null ? "–" : `${fixed(100 * one.equal, 0)} %`,
            whole(one.items),
          ]),
        ),
      ),
    ),
  );
}

const partName = (part) => known(`rating.part_${part}`, part.replaceAll("_", " "));

// A table whose first column names the rows, the others being numbers.
function table(heads, rows) {
  return el(
    "div",
    { class: "scroll", tabindex: "0", role: "region", "aria-label": heads[0] },
    el(
      "table",
      {},
      el("thead", {}, el("tr", {}, heads.map((head, i) => el("th", { scope: "col", class: i ? "num" : "" }, head)))),
      el("tbody", {}, rows.map(([first, ...rest]) => el("tr", {}, el("th", { scope: "row" }, first), rest.map((cell) => el("td", { class: "num" }, cell))))),
    ),
  );
}
