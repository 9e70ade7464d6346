// The controls above the examples. They are made once and follow what the address says (`sync`).

const DIFFS = ["off", "a", "reference"];

class ExampleControls {
  constructor(page) {
    this.page = page;
    const { several, judging } = page;
    const judged = judging.length > 0;
    const models = page.answers.models.map((name) => [name, page.label(name)]);
    const choose = (key) => (value) => page.change({ [key]: value });
    const select = (key, label, choices) => field(label, choices, "", choose(key), { name: key });
    this.hint = el("span", { class: "hint", id: "search-hint", role: "status" });
    this.search = this.searchField();
    this.modes = el("div", {});
    this.sorts = select("sort", t("answers.order"), []);
    this.least = this.leastField();
    this.views = this.segments("view", VIEWS, (view) => t(`examples.view_${view}`));
    this.node = el(
      "form",
      { class: "controls example-controls", role: "search", on: { submit: (event) => event.preventDefault() } },
      el(
        "div",
        { class: "control-line" },
        el("div", { class: "field search" }, this.search, this.hint),
        el("fieldset", { class: "segments modes" }, el("legend", {}, t("answers.show")), this.modes),
        el("fieldset", { class: "segments views" }, el("legend", {}, t("examples.view")), this.views),
      ),
      el(
        "div",
        { class: "control-line" },
        several ? this.modelField("a", "b", models) : null,
        several ? this.modelField("b", "a", models) : null,
        judged ? select("metric", t("answers.metric"), judging.map((one) => [one.name, one.label])) : null,
        several && judged ? this.least : null,
        this.sorts,
        select("diff", t("examples.diff"), DIFFS.map((name) => [name, name])),
        el("div", { class: "menus" }, filterMenu(page), several ? columnMenu(page) : null),
      ),
    );
  }

  // A model beside itself tells nothing: who is chosen twice changes places.
  modelField(key, other, models) {
    const choose = (value) => {
      const { ask } = this.page;
      this.page.change(value === ask[other] ? { [key]: value, [other]: ask[key] } : { [key]: value });
    };
    return field(t(`answers.model_${key}`), models, "", choose, { name: key });
  }

  searchField() {
    const input = el("input", {
      type: "search",
      name: "q",
      placeholder: t("answers.search_hint"),
      "aria-describedby": "search-hint",
      autocomplete: "off",
      spellcheck: "false",
    });
    this.query = input;
    input.addEventListener("input", debounce(120, () => this.page.change({ q: input.value })));
    return el("label", {}, el("span", {}, t("answers.search")), input);
  }

  // By how much the better model has to be better.
  leastField() {
    const input = el("input", { type: "range", name: "least", min: "0" });
    this.leastSize = el("output", { class: "num" });
    const chosen = debounce(60, () => this.page.change({ least: Number(input.value) ? input.value : "" }));
    input.addEventListener("input", () => {
      this.tellLeast(Number(input.value));
      chosen();
    });
    return el("label", { class: "field least" }, el("span", {}, t("examples.least"), " ", this.leastSize), input);
  }

  tellLeast(size) {
    const words = size ? this.page.sizeWords(size) : t("examples.least_any");
    this.leastSize.textContent = words;
    this.least.querySelector("input").setAttribute("aria-valuetext", words);
  }

  syncLeast() {
    const { ask, steps } = this.page;
    this.least.hidden = !steps;
    if (!steps) return;
    const input = this.least.querySelector("input");
    input.max = Math.max(steps.most, ask.least);
    input.step = steps.step;
    // While it is dragged it is ahead of what is shown.
    const dragged = document.activeElement === input && ask.least > 0;
    if (!dragged) input.value = ask.least;
    this.tellLeast(dragged ? Number(input.value) : ask.least);
  }

  segments(name, values, label) {
    return el(
      "div",
      {},
      values.map((value) =>
        el(
          "label",
          {},
          el("input", { type: "radio", name, value, on: { change: () => this.page.change({ [name]: value }) } }),
          el("span", {}, label(value)),
        ),
      ),
    );
  }

  // Puts into the controls what is asked for now.
  sync() {
    const { page } = this;
    const names = { a: page.label(page.ask.a), b: page.label(page.ask.b) };
    if (document.activeElement !== this.query) this.query.value = get("q");
    this.hint.textContent = page.plain ? t(page.slow ? "answers.slow_regex" : "answers.bad_regex") : "";
    this.syncModes(names);
    this.syncLeast();
    const sorts = page.sorts().map((sort) => [sort, t(`examples.sort_${sort}`, names)]);
    refill(this.sorts.querySelector("select"), sorts.map(([value, label]) => option(value, label, page.ask.sort)));
    const diff = this.node.querySelector("select[name=diff]");
    const diffs = DIFFS.filter((name) => name !== "a" || page.several);
    refill(diff, diffs.map((name) => option(name, t(`examples.diff_${name}`, names), page.diff)));
    for (const [key, value] of Object.entries({ a: page.ask.a, b: page.ask.b, metric: page.ask.metric ?? "" })) {
      const select = this.node.querySelector(`select[name=${key}]`);
      if (select) select.value = value;
    }
    for (const input of this.views.querySelectorAll("input")) input.checked = input.value === page.view;
    for (const input of this.node.querySelectorAll("input[name=column]")) input.checked = page.shown.includes(input.value);
    for (const input of this.node.querySelectorAll("input[data-where]")) input.checked = page.hasValue(JSON.parse(input.dataset.where));
  }

  // The names in the labels change with the models that are compared; focus stays.
  syncModes(names) {
    const modes = this.page.modes();
    const label = (mode) =>
      mode === "a" || mode === "b" ? t("examples.mode_better", { model: names[mode] }) : t(`examples.mode_${mode}`);
    const inputs = [...this.modes.querySelectorAll("input")];
    if (inputs.length !== modes.length) refill(this.modes, [...this.segments("mode", modes, label).children]);
    for (const input of this.modes.querySelectorAll("input")) {
      input.checked = input.value === this.page.ask.mode;
      input.nextElementSibling.textContent = label(input.value);
      input.parentElement.title = this.page.modeMeaning(input.value);
    }
  }
}

// --- menus ----------------------------------------------------------------------------------------

// A button that opens a panel, which is made when it is first opened; closed by Escape, or by going
// elsewhere. `made()`: its content is there.
function menu(label, name, panel, made) {
  const summary = el("summary", { "data-menu": name }, label);
  const inside = el("div", { class: "menu-panel" });
  const box = el("details", { class: "menu" }, summary, inside);
  const fill = () => {
    if (inside.childElementCount) return;
    refill(inside, panel());
    made();
  };
  // The event of opening comes only after a frame with an empty panel was shown.
  summary.addEventListener("click", fill);
  box.addEventListener("toggle", () => box.open && fill());
  box.addEventListener("keydown", (event) => {
    if (event.key !== "Escape" || !box.open) return;
    event.stopPropagation();
    box.open = false;
    summary.focus();
  });
  box.addEventListener("focusout", (event) => {
    if (event.relatedTarget && !box.contains(event.relatedTarget)) box.open = false;
  });
  return box;
}

function columnMenu(page) {
  return menu(t("answers.columns"), "columns", () => columnPanel(page), () => page.controls.sync());
}

function columnPanel(page) {
  const boxes = page.answers.models.map((name) =>
    checkLine("column", name, el("bdi", {}, page.label(name)), (shown) => page.showColumn(name, shown)),
  );
  return [el("fieldset", {}, el("legend", {}, t("answers.columns")), boxes)];
}

function checkLine(name, value, label, act, attributes = {}) {
  const input = el("input", { type: "checkbox", name, value, ...attributes, on: { change: () => act(input.checked) } });
  return el("label", { class: "check-line" }, input, el("span", {}, label));
}

// More values than these are told as a number: nobody reads a list of a thousand sources.
const MOST_LISTED = 100;

function filterMenu(page) {
  return menu(t("examples.filters"), "filters", () => filterPanel(page), () => page.controls.sync());
}

function filterPanel(page) {
  const { answers } = page;
  const groups = answers.columns.map((column) => {
    const counts = countValues(answers.column(column));
    if (counts.length < 2) return null;
    const lines = counts.slice(0, MOST_LISTED).map(([value, count]) => {
      const one = { kind: "is", column, values: [value] };
      return valueLine(page, one, valueWords(value), count);
    });
    const left = counts.length - lines.length;
    return facet(columnWords(column), [lines, left ? el("p", { class: "quiet" }, t("examples.more_values", { count: whole(left) })) : null]);
  });
  const ends = answers.models.flatMap((model) =>
    countValues(answers.facts("finish_reason", model) ?? [])
      .filter(([value]) => value !== "" && value !== "stop")
      .map(([value, count]) => valueLine(page, { kind: "ended", model, value }, `${page.label(model)}: ${value}`, count)),
  );
  return [
    el("div", { class: "facets" }, groups, ends.length ? facet(t("answers.fact_finish_reason"), ends) : null),
    answers.metrics.length ? scoreRange(page) : null,
  ];
}

// [value, how many rows have it], the most common first; "" where there is none.
function countValues(column) {
  const counts = new Map();
  for (const value of column) counts.set(value ?? "", (counts.get(value ?? "") ?? 0) + 1);
  return [...counts].sort((x, y) => y[1] - x[1] || x[0].localeCompare(y[0], "en", { numeric: true }));
}

const facet = (title, lines) => el("fieldset", { class: "facet" }, el("legend", {}, title), el("div", {}, lines));

function valueLine(page, condition, label, count) {
  const text = [el("bdi", {}, label), " ", el("span", { class: "quiet num" }, whole(count))];
  return checkLine("value", JSON.stringify(condition), text, (on) => page.setValue(condition, on), {
    "data-where": JSON.stringify(condition),
  });
}

// Scores of one model from … to; shares are typed in per cent, as they are shown.
function scoreRange(page) {
  const { metrics, models } = page.answers;
  const name = (key) => ({ name: `range-${key}` });
  const metric = field(t("examples.of_metric"), metrics.map((one) => [one.name, one.label]), metrics[0].name, () => {}, name("metric"));
  const model = field(t("examples.of_model"), models.map((one) => [one, page.label(one)]), models.at(-1), () => {}, name("model"));
  const number = (key) =>
    el("label", { class: "field" }, el("span", {}, t(`examples.range_${key}`)), el("input", { type: "number", step: "any", ...name(key) }));
  const low = number("low");
  const high = number("high");
  const read = (node, percent) => {
    const { value } = node.querySelector("input");
    return value === "" ? null : Number(value) / (percent ? 100 : 1);
  };
  const add = () => {
    const chosen = metric.querySelector("select").value;
    const percent = metrics.find((one) => one.name === chosen).format === "percent";
    const bounds = { low: read(low, percent), high: read(high, percent) };
    if (bounds.low === null && bounds.high === null) return;
    page.addCondition({ kind: "score", metric: chosen, model: model.querySelector("select").value, ...bounds });
  };
  const button = el("button", { type: "button", "data-action": "range", on: { click: add } }, t("examples.add"));
  return el("fieldset", { class: "score-range" }, el("legend", {}, t("examples.range")), el("div", { class: "fields" }, metric, model, low, high, button));
}
