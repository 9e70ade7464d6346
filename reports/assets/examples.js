// The examples: every model's answer to every prompt, side by side. What the reader chose stands
// in the address: mode, a, b, metric, least, sort, q, where, hide, view, diff, row.
//
// `openExamples(filter)` leads from a chart to the examples behind it. `filter` may have `mode`,
// `a`, `b`, `metric`, `least`, `sort`, `q`, `where` (conditions of examples_where.js), `row` (an id); what
// it does not have falls back to its default.

const ASKED = ["mode", "a", "b", "metric", "least", "sort", "q", "where"];
// Modes in which one model wins.
const WINS = ["a", "b"];
const examplesNow = { page: null };

async function startExamples(core) {
  examplesNow.page = null;
  const root = byId("answers-browser");
  if (!root) return;
  let answers;
  try {
    answers = await openAnswers();
  } catch (error) {
    refill(root, el("p", { class: "empty", role: "status" }, t(error.code === "unsupported" ? "answers.unsupported" : "answers.broken")));
    return;
  }
  if (!answers) return;
  nameMetrics(answers, core.summary);
  examplesNow.page = new Examples(root, answers, core);
}

// Answers are packed once for all languages: their metrics are called as the summary calls them.
function nameMetrics(answers, summary) {
  for (const metric of answers.metrics) {
    metric.label = summary?.metrics.find((one) => one.name === metric.name)?.label ?? metric.label;
  }
}

function openExamples(filter = {}) {
  const asked = Object.fromEntries(ASKED.map((key) => [key, filter[key] ?? ""]));
  set({ ...asked, where: writeWhere(filter.where ?? []), row: filter.row ?? "" });
  examplesNow.page?.update();
  goTo("answers");
}

// The part of the page that an address names; an example that it names, where there is one.
function revealSection(name) {
  const { page } = examplesNow;
  if (name === "answers" && page?.open) page.frame.node.scrollIntoView({ block: "start" });
  else showSection(name);
}

class Examples {
  constructor(root, answers, core) {
    this.answers = answers;
    this.core = core;
    this.summary = core.summary;
    this.several = answers.models.length > 1;
    // Which answer is better can only be asked of metrics with a direction.
    this.judging = answers.metrics.filter((metric) => metric.tested);
    this.defaults = this.usual();
    this.rows = [];
    this.at = 0;
    this.open = "";
    this.whole = new Set();
    this.build(root);
    this.update();
  }

  usual() {
    const names = this.answers.models;
    const first = names.includes(this.summary?.baseline) ? this.summary.baseline : names[0];
    const last = names.filter((name) => name !== first).at(-1) ?? first;
    return { mode: "all", a: first, b: last, metric: this.judging[0]?.name ?? "", sort: "set", view: "wrapped", diff: "off" };
  }

  label(name) {
    return this.summary ? labelOf(this.summary, name) : name;
  }

  series(name) {
    return this.summary ? seriesOf(this.summary, name) : this.answers.models.indexOf(name) % 10;
  }

  // --- what is asked ------------------------------------------------------------------------------

  choice(key, allowed) {
    const value = get(key, this.defaults[key]);
    return allowed.includes(value) ? value : this.defaults[key];
  }

  read() {
    const { answers } = this;
    const hidden = new Set(get("hide").split(",").map(unescaped));
    const shown = answers.models.filter((name) => !hidden.has(name));
    this.shown = shown.length ? shown : answers.models;
    this.view = this.choice("view", VIEWS);
    this.diff = this.choice("diff", DIFFS);
    const { pattern, plain, slow } = compileSearch(get("q"));
    this.plain = plain;
    this.slow = slow;
    const pair = {
      a: this.choice("a", answers.models),
      b: this.choice("b", answers.models),
      metric: this.choice("metric", this.judging.map((one) => one.name)) || null,
    };
    this.ask = {
      ...pair,
      pattern,
      shown: this.shown,
      sort: this.choice("sort", this.sorts()),
      where: readWhere(get("where"), answers),
      judges: judgesOf(answers, pair, this.summary),
    };
    this.ask.mode = this.choice("mode", this.modes());
    this.steps = WINS.includes(this.ask.mode) ? leastSteps(answers, this.ask) : null;
    const least = Number(get("least"));
    this.ask.least = this.steps && least > 0 && Number.isFinite(least) ? least : 0;
  }

  // A difference of the chosen metric, as it is shown.
  sizeWords(size) {
    const metric = this.judging.find((one) => one.name === this.ask.metric);
    return metricNumber(metric, size, [this.steps.step]) + pointsOf(metric);
  }

  modes() {
    const { judges } = this.ask;
    const allowed = {
      different: this.several,
      a: this.several && this.judging.length,
      b: this.several && this.judging.length,
      judges: this.several && (judges.length > 1 || judges.some((judge) => judge.torn)),
    };
    return MODES.filter((mode) => allowed[mode] ?? true);
  }

  sorts() {
    const judged = this.judging.length > 0;
    const compared = judged && this.several;
    const timed = this.answers.models.some((name) => this.answers.facts("seconds", name));
    const allowed = { gap: compared, a: compared, b: compared, low: judged, high: judged, slow: timed };
    return SORTS.filter((sort) => allowed[sort] ?? true);
  }

  modeLabel(mode) {
    if (mode === "a" || mode === "b") return t("examples.mode_better", { model: this.label(this.ask[mode]) });
    return t(`examples.mode_${mode}`);
  }

  modeMeaning(mode) {
    const { metric, judges } = this.ask;
    const about = this.judging.find((one) => one.name === metric);
    const names = judges.map((judge) => judge.label ?? t("examples.judge_pairs")).join(", ");
    return t(`examples.meaning_${mode === "b" ? "a" : mode}`, { metric: about?.label ?? "", judges: names });
  }

  // The text that this answer is shown as a change of, or null.
  diffBase(row, model) {
    if (this.diff === "reference") return this.answers.reference(row);
    return this.diff === "a" && model !== this.ask.a ? this.answers.answer(this.ask.a, row) : null;
  }

  // The metrics told below each answer: the chosen one, and what a reward model says.
  factMetrics() {
    const judges = new Set(this.ask.judges.map((judge) => judge.name));
    const named = this.judging.filter((one) => one.name === this.ask.metric || judges.has(one.name));
    return named.sort((x, y) => (y.name === this.ask.metric) - (x.name === this.ask.metric)).slice(0, 3);
  }

  // --- what the reader does -------------------------------------------------------------------------

  change(values) {
    // How much is much differs from metric to metric, and nobody wins in the other modes.
    const kept = !("metric" in values) && (!("mode" in values) || WINS.includes(values.mode));
    set({ row: "", ...(kept ? {} : { least: "" }), ...values }, this.defaults);
    this.update();
  }

  setWhere(where) {
    this.change({ where: writeWhere(where) });
  }

  addCondition(condition) {
    const text = writeWhere([condition]);
    this.setWhere([...this.ask.where.filter((one) => writeWhere([one]) !== text), condition]);
  }

  // Values of one column stand in one condition: any of them will do.
  setValue(condition, on) {
    if (condition.kind !== "is") {
      const others = this.ask.where.filter((one) => writeWhere([one]) !== writeWhere([condition]));
      this.setWhere(on ? [...others, condition] : others);
      return;
    }
    const [value] = condition.values;
    const before = this.ask.where.find((one) => one.kind === "is" && one.column === condition.column);
    const values = (before?.values ?? []).filter((one) => one !== value);
    if (on) values.push(value);
    const next = { ...condition, values };
    const where = before ? this.ask.where.map((one) => (one === before ? next : one)) : [...this.ask.where, next];
    this.setWhere(where.filter((one) => one.kind !== "is" || one.values.length));
  }

  hasValue(condition) {
    return this.ask.where.some((one) =>
      one.kind === "is" && condition.kind === "is"
        ? one.column === condition.column && one.values.includes(condition.values[0])
        : writeWhere([one]) === writeWhere([condition]),
    );
  }

  showColumn(name, on) {
    const shown = this.answers.models.filter((one) => (one === name ? on : this.shown.includes(one)));
    const hidden = shown.length ? this.answers.models.filter((one) => !shown.includes(one)) : [];
    this.change({ hide: hidden.map(encoded).join(",") });
  }

  reset() {
    set(Object.fromEntries([...ASKED, "hide", "row", "view", "diff"].map((key) => [key, ""])));
    this.update();
    this.controls.query.focus({ preventScroll: true });
  }

  // --- drawing --------------------------------------------------------------------------------------

  build(root) {
    this.chips = el("ul", { class: "filter-chips", "aria-label": t("examples.active") });
    this.resetButton = el("button", { type: "button", class: "link small reset", on: { click: () => this.reset() } }, t("answers.reset"));
    this.controls = new ExampleControls(this);
    this.frame = new ExampleFrame(this);
    refill(root, this.controls.node, el("div", { class: "chip-line" }, this.chips, this.resetButton), this.frame.node);
  }

  update() {
    this.read();
    this.rows = matchingRows(this.answers, this.ask);
    this.whole.clear();
    this.open = get("row");
    const place = this.rows.findIndex((row) => this.answers.id(row) === this.open);
    if (place < 0) this.open = "";
    this.at = Math.max(0, place);
    this.controls.sync();
    refill(this.chips, exampleChips(this));
    this.chips.hidden = !this.chips.childElementCount;
    this.resetButton.hidden = ![...ASKED, "hide"].some((key) => get(key));
    this.frame.show();
  }

  // --- one example ----------------------------------------------------------------------------------

  // Open or close the example at `index`; what was open closes.
  toggle(index) {
    const id = this.answers.id(this.rows[index]);
    this.open = this.open === id ? "" : id;
    set({ row: this.open });
    this.at = index;
    this.frame.again(index);
  }

  // Close what is open, wherever the reader is.
  shut() {
    this.open = "";
    set({ row: "" });
    this.frame.again(this.at);
  }

  // To the example at `index`; where one is open, it is opened in its place.
  go(index) {
    const to = Math.max(0, Math.min(index, this.rows.length - 1));
    if (!this.rows.length || (to === this.at && index !== this.at)) return;
    this.at = to;
    if (this.open) {
      this.open = this.answers.id(this.rows[to]);
      set({ row: this.open });
    }
    this.frame.goTo(to);
  }

  showWhole(index) {
    this.whole.add(this.rows[index]);
    this.frame.again(index);
  }

  // --- out of the page ------------------------------------------------------------------------------

  save(kind) {
    const name = `${(this.core.run ?? "").replace(/[^\p{L}\p{N}._-]+/gu, "-") || "examples"}-examples.${kind}`;
    const make = kind === "csv" ? examplesCsv : examplesJsonl;
    savePieces(name, kind === "csv" ? "text/csv" : "application/jsonl", make(this.answers, this.rows, this.shown));
  }

  async copyText(text) {
    this.frame.say(t((await copyToClipboard(text)) ? "examples.copied" : "examples.not_copied"));
  }

  copyLink(row) {
    const id = this.answers.id(row);
    const kept = { at: state.at, row: this.open };
    state.at = "answers";
    set({ row: id });
    const address = location.href;
    state.at = kept.at;
    set({ row: kept.row });
    return this.copyText(address);
  }
}
