// Rubrics of the rater's own: written here or read from a file, kept in this browser, and saved in
// the form that `espalier rate --rubric` and the recipe's `evaluate.ratings.rubrics` read.

const RUBRIC_KEY = "espalier-rubric/";
const RUBRIC_NAME = /^\p{L}[\p{L}\p{N}_-]{0,59}$/u;
const RUBRIC_FORM = '{"name": "…", "criteria": [{"name": "…", "description": "…", "check": false}]}';
// What a row of a file of ratings, or a judge's reply, holds beside its marks.
const TAKEN_NAMES = new Set([
  "reason", "explanation", "理由", "原因", "win_rate", "item", "id", "example_id", "task_id",
  "question_id", "uid", "prompt", "question", "instruction", "answer", "answer_a", "answer_b",
  "model", "model_a", "model_b", "a", "b", "verdict", "winner", "preference", "choice", "结论",
  "rater", "annotator", "labeler", "user", "worker", "评分人", "comment",
  "prompt_id", "seconds", "rated_at", "shown_first",
]);

// --- what a rubric is: { name, criteria: [{ name, description, check }] } ----------------------------

// What is wrong with a rubric, in words, or null; `others` are the names that are taken.
function rubricProblem({ name, criteria }, others) {
  if (!RUBRIC_NAME.test(name)) return t("rating.bad_name", { name: name || "–" });
  if (others.includes(name) || name === PAIRS) return t("rating.name_known", { name });
  if (!criteria.length) return t("rating.no_criteria");
  const seen = new Set();
  for (const one of criteria) {
    const word = one.name.toLowerCase();
    if (!RUBRIC_NAME.test(one.name)) return t("rating.bad_name", { name: one.name || "–" });
    if (TAKEN_NAMES.has(word)) return t("rating.name_taken", { name: one.name });
    if (seen.has(word)) return t("rating.name_twice", { name: one.name });
    if (!one.description) return t("rating.no_meaning", { name: one.name });
    seen.add(word);
  }
  return null;
}

// A rubric of a value from elsewhere, its texts trimmed; null where it is none.
function rubricFrom(value) {
  if (typeof value?.name !== "string" || !Array.isArray(value.criteria)) return null;
  const criteria = [];
  for (const one of value.criteria) {
    if (typeof one?.name !== "string" || typeof one.description !== "string") return null;
    criteria.push({ name: one.name.trim(), description: one.description.trim(), check: one.check === true });
  }
  return { name: value.name.trim(), criteria };
}

// As the desk marks by it.
function markedBy({ name, criteria }) {
  return {
    name,
    marks: criteria.filter((one) => !one.check).map((one) => one.name),
    checks: criteria.filter((one) => one.check).map((one) => one.name),
    meanings: Object.fromEntries(criteria.map((one) => [one.name, one.description])),
  };
}

// --- where they are kept -----------------------------------------------------------------------------

// For browsers that keep nothing: for this visit.
const rubricsHere = new Map();

function keptRubrics(known) {
  const found = new Map(rubricsHere);
  try {
    for (let i = 0; i < localStorage.length; i += 1) {
      const key = localStorage.key(i);
      if (!key.startsWith(RUBRIC_KEY)) continue;
      const rubric = parsedRubric(localStorage.getItem(key));
      if (rubric && key === RUBRIC_KEY + rubric.name) found.set(rubric.name, rubric);
    }
  } catch {
    // It keeps nothing.
  }
  return [...found.values()].filter((one) => !rubricProblem(one, known)).sort((x, y) => (x.name < y.name ? -1 : 1));
}

function parsedRubric(text) {
  try {
    return rubricFrom(JSON.parse(text));
  } catch {
    return null;
  }
}

function keepRubric(rubric) {
  rubricsHere.set(rubric.name, rubric);
  remember(RUBRIC_KEY + rubric.name, JSON.stringify(rubric));
}

function forgetRubric(name) {
  rubricsHere.delete(name);
  try {
    localStorage.removeItem(RUBRIC_KEY + name);
  } catch {
    // There is nothing to forget.
  }
}

// --- the editor ----------------------------------------------------------------------------------------

// `known`: the names of the rubrics that the page has anyway; `changed(name)`: there is another one,
// or (null) one less.
class RubricEditor {
  constructor(known, changed) {
    this.known = known;
    this.changed = changed;
    this.status = el("p", { class: "rate-status", role: "status" });
    this.list = el("ul", { class: "rubric-own" });
    this.lines = el("div", { class: "rubric-lines" });
    this.name = el("input", { type: "text", name: "rubric-name", maxlength: "60", autocomplete: "off" });
    const file = el("input", { type: "file", name: "rubric-file", accept: ".json,application/json", "aria-label": t("rating.rubric_read"), tabindex: "-1", on: { change: () => this.read(file) } });
    const button = (kind, label, click) => el("button", { type: kind === "primary" ? "submit" : "button", class: kind, on: click ? { click } : {} }, label);
    this.node = el("details", { class: "more rubric-editor" },
      el("summary", {}, t("rating.own_rubric")),
      el("p", { class: "quiet" }, t("rating.own_rubric_intro")),
      this.list,
      el("form", { on: { submit: (event) => this.add(event) } },
        el("label", { class: "field" }, el("span", {}, t("rating.rubric_name")), this.name),
        this.lines,
        el("div", { class: "rate-rest" },
          button("rubric-more", t("rating.criterion_more"), () => this.addLine(true)),
          button("primary", t("rating.rubric_use")),
          button("rubric-read", t("rating.rubric_read"), () => file.click()),
          file,
        ),
      ),
      this.status,
    );
    this.fill({ name: "", criteria: [] });
    this.drawList();
  }

  rubrics() {
    return keptRubrics(this.known);
  }

  // Puts a rubric into the form, with an empty line where there is none.
  fill({ name, criteria }) {
    this.name.value = name;
    refill(this.lines);
    for (const one of criteria) this.addLine(false, one);
    if (!criteria.length) this.addLine(false);
  }

  addLine(here, { name = "", description = "", check = false } = {}) {
    const number = this.lines.childElementCount + 1;
    const text = (key, value) =>
      el("label", { class: `field ${key}` }, el("span", {}, t(`rating.criterion_${key}`)), el("input", { type: "text", name: `criterion-${key}`, value, autocomplete: "off", maxlength: key === "name" ? "60" : "500" }));
    const line = el("fieldset", { class: "rubric-line" },
      el("legend", { class: "visually-hidden" }, t("rating.criterion_number", { number })),
      text("name", name),
      text("meaning", description),
      field(t("rating.criterion_kind"), [["mark", t("rating.kind_mark")], ["check", t("rating.kind_check")]], check ? "check" : "mark", () => {}, { name: "criterion-kind" }),
      el("button", { type: "button", class: "link", "aria-label": t("rating.criterion_remove", { number }), on: { click: () => this.removeLine(line) } }, "×"),
    );
    this.lines.append(line);
    if (here) line.querySelector("input").focus();
  }

  removeLine(line) {
    const next = line.nextElementSibling ?? line.previousElementSibling;
    line.remove();
    if (next) next.querySelector("input").focus();
    else this.addLine(true);
  }

  written() {
    const criteria = [...this.lines.children]
      .map((line) => ({
        name: line.querySelector("[name=criterion-name]").value.trim(),
        description: line.querySelector("[name=criterion-meaning]").value.trim(),
        check: line.querySelector("[name=criterion-kind]").value === "check",
      }))
      .filter((one) => one.name || one.description);
    return { name: this.name.value.trim(), criteria };
  }

  add(event) {
    event.preventDefault();
    this.take(this.written());
  }

  // A rubric of the same name takes the place of the one before.
  take(rubric) {
    const problem = rubricProblem(rubric, this.known);
    this.say(problem ?? t("rating.rubric_kept", { name: rubric.name }), problem !== null);
    if (problem) return;
    keepRubric(rubric);
    this.fill({ name: "", criteria: [] });
    this.drawList();
    this.changed(rubric.name);
  }

  async read(file) {
    const [chosen] = file.files;
    if (!chosen) return;
    const rubric = parsedRubric(await chosen.text());
    file.value = "";
    if (rubric) this.take(rubric);
    else this.say(t("rating.no_rubric_file", { form: RUBRIC_FORM }), true);
  }

  drawList() {
    const link = (kind, label, click) => el("button", { type: "button", class: `link ${kind}`, on: { click } }, label);
    const items = this.rubrics().map((rubric) =>
      el("li", {},
        el("bdi", {}, rubric.name),
        el("span", { class: "quiet" }, rubric.criteria.map((one) => one.name).join(t("list.comma"))),
        link("rubric-change", t("rating.rubric_change"), () => {
          this.fill(rubric);
          this.name.focus();
        }),
        link("rubric-save", t("rating.export"), () => saveFile(`${rubric.name}.json`, `${JSON.stringify(rubric, null, 2)}\n`, "application/json")),
        link("rubric-remove", t("rating.rubric_remove"), () => {
          forgetRubric(rubric.name);
          this.drawList();
          this.say(t("rating.rubric_gone", { name: rubric.name }));
          this.changed(null);
          this.name.focus();
        }),
      ),
    );
    refill(this.list, items);
    this.list.hidden = !items.length;
  }

  say(text, trouble = false) {
    this.status.textContent = text;
    this.status.classList.toggle("trouble", trouble);
  }
}
