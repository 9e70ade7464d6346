// Side-by-side answers: filters over columns of plain data, one page of rows as nodes at a time.

const PAGE_ROWS = 20;
// With more columns than these, the two that are compared come first.
const FEW_COLUMNS = 5;
const MODES = ["all", "different", "a", "b"];
const CHOICES = ["mode", "a", "b", "metric", "lang", "cat", "sort", "q", "page", "hide"];

async function startAnswers(summary) {
  const root = byId("answers-browser");
  const say = (text) => refill(root, el("p", { class: "empty", role: "status" }, text));
  let answers;
  try {
    answers = await openAnswers();
  } catch (error) {
    say(t(error.code === "unsupported" ? "answers.unsupported" : "answers.broken"));
    return null;
  }
  return answers && new AnswerBrowser(root, inColumns(answers), summary);
}

function inColumns(answers) {
  const rows = Array.from({ length: answers.count }, (_, row) => row);
  const column = (read) => rows.map(read);
  const facts = (model) =>
    ["tokens", "seconds", "finish_reason"]
      .map((name) => [name, answers.facts(name, model)])
      .filter(([, values]) => values)
      .map(([name, values]) => [name, [...values].map((value) => (Number.isNaN(value) ? null : value))]);
  return {
    rows: {
      id: column((row) => answers.id(row)),
      prompt: column((row) => answers.prompt(row)),
      reference: column((row) => answers.reference(row)),
      category: answers.column("category"),
      language: answers.column("language"),
    },
    models: answers.models.map((name) => ({
      name,
      answers: column((row) => answers.answer(name, row)),
      facts: Object.fromEntries(facts(name)),
    })),
    metrics: answers.metrics.map((metric) => ({
      ...metric,
      values: Object.fromEntries(answers.models.map((name) => [name, [...answers.values(metric.name, name)]])),
    })),
  };
}

class AnswerBrowser {
  constructor(root, data, summary) {
    this.root = root;
    this.data = data;
    this.total = data.rows.id.length;
    this.models = data.models.map((model) => ({
      ...model,
      label: summary ? labelOf(summary, model.name) : model.name,
      series: summary ? seriesOf(summary, model.name) : 0,
    }));
    this.metrics = data.metrics.map((metric) => ({ ...metric, binary: isBinary(metric) }));
    // Which answer is better can only be asked of metrics with a direction.
    this.judging = this.metrics.filter((metric) => metric.tested);
    const names = this.models.map((model) => model.name);
    const first = summary && names.includes(summary.baseline) ? summary.baseline : names[0];
    const last = names.filter((name) => name !== first).at(-1) ?? first;
    this.defaults = {
      mode: "all",
      a: first,
      b: last,
      metric: this.judging[0]?.name ?? "",
      sort: "set",
      page: "1",
    };
    this.build();
    this.update();
  }

  choice(key) {
    const value = get(key, this.defaults[key] ?? "");
    const names = this.models.map((model) => model.name);
    const valid = {
      mode: () => MODES.includes(value),
      a: () => names.includes(value),
      b: () => names.includes(value),
      metric: () => this.judging.some((metric) => metric.name === value),
    }[key];
    return valid && !valid() ? this.defaults[key] : value;
  }

  change(values) {
    set({ page: "1", ...values }, this.defaults);
    this.update();
  }

  model(key) {
    return this.models.find((model) => model.name === this.choice(key));
  }

  metric() {
    return this.judging.find((metric) => metric.name === this.choice("metric"));
  }

  hidden() {
    return new Set(get("hide").split(",").filter(Boolean));
  }

  shownModels() {
    const hidden = this.hidden();
    const shown = this.models.filter((model) => !hidden.has(model.name));
    if (shown.length <= FEW_COLUMNS) return shown.length ? shown : this.models;
    const pair = ["a", "b"].map((key) => this.choice(key));
    const place = (model) => (pair.includes(model.name) ? pair.indexOf(model.name) : pair.length);
    return shown.toSorted((x, y) => place(x) - place(y));
  }

  // --- controls --------------------------------------------------------------------------------

  build() {
    this.controls = el("form", { class: "controls", role: "search", on: { submit: (e) => e.preventDefault() } });
    this.status = el("p", { class: "status", role: "status" });
    this.list = el("div", { class: "rows" });
    this.pager = el("nav", { class: "pager", "aria-label": t("section.answers") });
    refill(this.root, this.controls, this.status, this.list, this.pager);
    this.drawControls();
  }

  drawControls() {
    const models = this.models.map((model) => [model.name, model.label]);
    const any = [["", t("answers.any")]];
    const values = (column) => [...new Set(column.filter((value) => value !== null))].sort();
    const languages = values(this.data.rows.language);
    const categories = values(this.data.rows.category);
    const change = (key) => (value) => this.change({ [key]: value });
    const redraw = (key) => (value) => {
      this.change({ [key]: value });
      this.drawControls();
      this.controls.querySelector(`[name="${key}"]`)?.focus();
    };
    const several = this.models.length > 1;
    const judged = several && this.judging.length > 0;
    refill(
      this.controls,
      this.searchField(),
      several ? this.modeField() : null,
      several ? field(t("answers.model_a"), models, this.choice("a"), redraw("a"), { name: "a" }) : null,
      several ? field(t("answers.model_b"), models, this.choice("b"), redraw("b"), { name: "b" }) : null,
      judged
        ? field(t("answers.metric"), this.judging.map((m) => [m.name, m.label]), this.choice("metric"), change("metric"), { name: "metric" })
        : null,
      judged
        ? field(t("answers.order"), [["set", t("answers.order_set")], ["gap", t("answers.order_gap")]], this.choice("sort"), change("sort"), { name: "sort" })
        : null,
      languages.length > 1
        ? field(t("answers.language"), [...any, ...languages.map((v) => [v, v])], get("lang"), change("lang"), { name: "lang" })
        : null,
      categories.length > 1
        ? field(t("answers.category"), [...any, ...categories.map((v) => [v, v])], get("cat"), change("cat"), { name: "cat" })
        : null,
      this.models.length > 2 ? this.columnField() : null,
      el("button", { type: "button", class: "reset", on: { click: () => this.reset() } }, t("answers.reset")),
    );
  }

  searchField() {
    this.hint = el("span", { class: "hint", id: "search-hint" });
    const input = el("input", {
      type: "search",
      name: "q",
      value: get("q"),
      placeholder: t("answers.search_hint"),
      "aria-describedby": "search-hint",
      autocomplete: "off",
      spellcheck: "false",
    });
    input.addEventListener("input", debounce(150, () => this.change({ q: input.value })));
    return el("label", { class: "field search" }, el("span", {}, t("answers.search")), input, this.hint);
  }

  modeField() {
    const judged = this.judging.length > 0;
    const label = {
      all: t("answers.mode_all"),
      different: t("answers.mode_different"),
      a: t("answers.mode_a", { model: this.model("a").label }),
      b: t("answers.mode_b", { model: this.model("b").label }),
    };
    return el(
      "fieldset",
      { class: "segments" },
      el("legend", {}, t("answers.show")),
      el(
        "div",
        {},
        MODES.filter((mode) => judged || !["a", "b"].includes(mode)).map((mode) =>
          el(
            "label",
            {},
            el("input", {
              type: "radio",
              name: "mode",
              value: mode,
              checked: this.choice("mode") === mode,
              on: { change: () => this.change({ mode }) },
            }),
            el("span", {}, label[mode]),
          ),
        ),
      ),
    );
  }

  columnField() {
    const hidden = this.hidden();
    return el(
      "fieldset",
      { class: "chips" },
      el("legend", {}, t("answers.columns")),
      el(
        "div",
        {},
        this.models.map((model) => {
          const box = el("input", {
            type: "checkbox",
            name: "column",
            value: model.name,
            checked: !hidden.has(model.name),
            on: { change: () => this.toggleColumn(model.name, box.checked) },
          });
          return el("label", {}, box, el("span", {}, el("bdi", {}, model.label)));
        }),
      ),
    );
  }

  toggleColumn(name, shown) {
    const hidden = this.hidden();
    if (shown) hidden.delete(name);
    else hidden.add(name);
    set({ hide: [...hidden].join(",") });
    this.update();
  }

  reset() {
    set(Object.fromEntries(CHOICES.map((key) => [key, ""])));
    this.drawControls();
    this.update();
  }

  showGroup(kind, value) {
    set({ [kind === "language" ? "lang" : "cat"]: value, page: "" });
    this.drawControls();
    this.update();
    goTo("answers");
  }

  // --- which rows ------------------------------------------------------------------------------

  // B - A on the chosen metric, turned so that more is better; null where one is missing.
  gap(row) {
    const metric = this.metric();
    if (!metric) return null;
    const a = metric.values[this.choice("a")]?.[row];
    const b = metric.values[this.choice("b")]?.[row];
    if (!isNumber(a) || !isNumber(b)) return null;
    return metric.higher_is_better ? b - a : a - b;
  }

  matching(pattern) {
    const rows = this.data.rows;
    const language = get("lang");
    const category = get("cat");
    const mode = this.choice("mode");
    const shown = this.shownModels();
    const gaps = new Map();
    const fits = (row) => {
      if (language && rows.language[row] !== language) return false;
      if (category && rows.category[row] !== category) return false;
      if (mode === "different" && !differ(shown, row)) return false;
      if (mode === "a" || mode === "b") {
        const gap = this.gap(row);
        if (gap === null || (mode === "a" ? gap >= 0 : gap <= 0)) return false;
      }
      if (!pattern) return true;
      return (
        found(pattern, rows.prompt[row]) ||
        found(pattern, rows.reference[row]) ||
        shown.some((model) => found(pattern, model.answers[row]))
      );
    };
    const kept = [];
    for (let row = 0; row < this.total; row += 1) if (fits(row)) kept.push(row);
    if (this.choice("sort") === "gap") {
      for (const row of kept) gaps.set(row, Math.abs(this.gap(row) ?? -1));
      kept.sort((x, y) => gaps.get(y) - gaps.get(x) || x - y);
    }
    return kept;
  }

  // --- drawing ---------------------------------------------------------------------------------

  update() {
    const { pattern, plain } = compileSearch(get("q"));
    this.hint.textContent = plain ? t("answers.bad_regex") : "";
    const kept = this.matching(pattern);
    const pages = Math.max(1, Math.ceil(kept.length / PAGE_ROWS));
    const page = Math.min(pages, Math.max(1, Number.parseInt(get("page", "1"), 10) || 1));
    const start = (page - 1) * PAGE_ROWS;
    const rows = kept.slice(start, start + PAGE_ROWS);
    this.status.textContent = t("answers.count", { shown: whole(kept.length), total: whole(this.total) });
    refill(
      this.list,
      rows.length
        ? rows.map((row) => this.rowCard(row, pattern))
        : el("p", { class: "empty" }, t("answers.nothing")),
    );
    this.drawPager(page, pages, start, kept.length);
  }

  drawPager(page, pages, start, count) {
    this.pager.hidden = pages < 2;
    const turn = (to) => () => {
      set({ page: String(to) }, this.defaults);
      this.update();
      this.status.scrollIntoView({ block: "start" });
    };
    refill(
      this.pager,
      el("button", { type: "button", disabled: page === 1, on: { click: turn(page - 1) } }, `← ${t("answers.previous")}`),
      el(
        "span",
        { class: "num" },
        t("answers.page", {
          from: whole(start + 1),
          to: whole(Math.min(start + PAGE_ROWS, count)),
          total: whole(count),
        }),
      ),
      el("button", { type: "button", disabled: page === pages, on: { click: turn(page + 1) } }, `${t("answers.next")} →`),
    );
  }

  rowCard(row, pattern) {
    const rows = this.data.rows;
    const meta = [rows.language[row], rows.category[row]].filter((value) => value !== null);
    const reference = rows.reference[row];
    return el(
      "article",
      { class: "row" },
      el(
        "header",
        {},
        el("h3", {}, t("answers.row", { number: whole(row + 1) })),
        meta.map((value) => el("span", { class: "tag" }, el("bdi", {}, value))),
        this.gapTag(row),
        el("code", { class: "row-id" }, rows.id[row]),
      ),
      longText("text prompt", rows.prompt[row] ?? "", pattern, LONG_PROMPT),
      reference === null
        ? null
        : el(
            "div",
            { class: "reference" },
            el("h4", {}, t("answers.reference")),
            longText("text", reference, pattern, LONG_PROMPT),
          ),
      el("div", { class: "columns" }, this.shownModels().map((model) => this.answer(model, row, pattern))),
      this.allScores(row),
    );
  }

  gapTag(row) {
    const metric = this.metric();
    const gap = this.gap(row);
    if (!gap) return null;
    const winner = this.model(gap > 0 ? "b" : "a");
    const a = metric.values[this.choice("a")][row];
    const b = metric.values[this.choice("b")][row];
    const size = metric.binary ? "" : ` ${signedNumber(metric, b - a)}`;
    return el(
      "span",
      { class: `mark ${gap > 0 ? "better" : "worse"}`, title: metric.label },
      `${MARKS[gap > 0 ? "better" : "worse"]} `,
      t("answers.gap", { model: winner.label, metric: metric.label }),
      size,
    );
  }

  answer(model, row, pattern) {
    const text = model.answers[row];
    const body =
      text === null
        ? el("p", { class: "text quiet" }, t("answers.no_answer"))
        : text.trim() === ""
          ? el("p", { class: "text quiet" }, t("answers.empty"))
          : longText("text", text, pattern, LONG_ANSWER);
    return el(
      "div",
      { class: "answer" },
      el(
        "h4",
        {},
        el("span", { class: `dot-label s${model.series}`, "aria-hidden": "true" }),
        el("bdi", {}, model.label),
      ),
      body,
      text === null ? null : this.answerFacts(model, row),
    );
  }

  answerFacts(model, row) {
    const metric = this.metric();
    const value = metric?.values[model.name][row] ?? null;
    const fact = (name) => model.facts[name]?.[row] ?? null;
    return el(
      "p",
      { class: "answer-facts" },
      value === null
        ? null
        : el("span", { class: "score chosen" }, `${metric.label} `, el("b", { class: "num" }, rowNumber(metric, value))),
      fact("tokens") === null ? null : el("span", {}, t("answers.tokens", { count: whole(fact("tokens")) })),
      fact("finish_reason") === "length" ? el("span", { class: "cut" }, t("answers.cut_off")) : null,
    );
  }

  allScores(row) {
    const models = this.shownModels();
    const metrics = this.metrics.filter((m) => models.some((model) => isNumber(m.values[model.name][row])));
    if (metrics.length < 2) return null;
    const table = el("div", { class: "score-table" });
    const details = el("details", { class: "row-scores" }, el("summary", {}, t("answers.scores")), table);
    details.addEventListener("toggle", () => {
      if (details.open && !table.childElementCount) refill(table, scoreTable(models, metrics, row));
    });
    return details;
  }
}

function differ(models, row) {
  const texts = new Set(models.map((model) => model.answers[row]?.trim() ?? null));
  return texts.size > 1;
}
