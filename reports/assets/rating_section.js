// Rating inside the report: the desk over this browser's ratings, files in and out, and what the
// ratings say, for who wants to see it.

async function startRating(core) {
  const root = byId("rating-desk");
  if (!root) return;
  let answers = null;
  try {
    answers = await openAnswers();
  } catch {
    // What is wrong with the answers is said where they are shown.
  }
  if (!answers) return;
  const known = core.rubrics.map((rubric) => rubric.name);
  const rubrics = () => [...core.rubrics, ...keptRubrics(known).map(markedBy)];
  const ratings = new LocalRatings(answers, rubrics());
  const files = new RatingFiles(core, ratings);
  const editor = new RubricEditor(known, (name) => {
    ratings.rubrics = rubrics();
    files.draw();
    desk.partsChanged(name);
  });
  const desk = new RatingDesk(root, ratings, { changed: () => files.draw(), more: () => editor.node });
  files.taken = () => { if (desk.far?.open) desk.drawProgress(); };
  refill(byId("rating-files"), files.node);
  await desk.start();
}

class RatingFiles {
  constructor(core, ratings) {
    this.core = core;
    this.ratings = ratings;
    this.shown = false;
    this.status = el("p", { class: "rate-status", role: "status" });
    this.results = el("div", { class: "rate-results" });
    const file = el("input", { type: "file", name: "ratings-file", accept: ".json,.jsonl,application/json", "aria-label": t("rating.import"), tabindex: "-1", on: { change: () => this.read(file) } });
    this.reveal = el("button", { type: "button", class: "rate-reveal", "aria-expanded": "false", on: { click: () => this.toggle() } }, t("rating.reveal"));
    this.node = el("div", { class: "rate-files" },
      el("h3", {}, t("rating.files")),
      el("div", { class: "rate-rest" },
        el("button", { type: "button", class: "rate-export", on: { click: () => this.save() } }, t("rating.export")),
        el("button", { type: "button", class: "rate-import", on: { click: () => file.click() } }, t("rating.import")),
        file,
        this.reveal,
        el("span", { class: "quiet" }, t("rating.reveal_note")),
      ),
      this.status,
      this.results,
    );
  }

  save() {
    const rows = this.ratings.rows();
    if (!rows.length) {
      this.status.textContent = t("rating.none_yet");
      return;
    }
    const text = `[\n${rows.map((row) => JSON.stringify(row)).join(",\n")}\n]\n`;
    saveFile(`ratings-${this.core.run}.json`.replace(/[^\p{L}\p{N}._-]+/gu, "-"), text, "application/json");
    this.status.textContent = "";
  }

  async read(file) {
    const [chosen] = file.files;
    if (!chosen) return;
    try {
      const rows = ratingRows(await chosen.text());
      this.status.textContent = t("rating.imported", { count: whole(this.ratings.take(rows)), rows: whole(rows.length) });
      this.draw();
      this.taken?.();
    } catch (error) {
      this.status.textContent = t("rating.no_file", { why: error.message });
    }
    file.value = "";
  }

  toggle() {
    this.shown = !this.shown;
    this.reveal.setAttribute("aria-expanded", String(this.shown));
    this.reveal.textContent = t(this.shown ? "rating.hide" : "rating.reveal");
    this.draw();
  }

  draw() {
    if (!this.shown) {
      refill(this.results);
      return;
    }
    const parts = [winRateTable(this.core, this.ratings), ...this.ratings.rubrics.map((rubric) => markTable(this.core, this.ratings, rubric))];
    const found = parts.filter(Boolean);
    refill(this.results, found.length ? found : el("p", { class: "empty" }, t("rating.none_yet")));
  }
}

function saveFile(name, text, type) {
  const url = URL.createObjectURL(new Blob([text], { type }));
  const link = el("a", { href: url, download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(url), 10_000);
}

const modelLabel = (core, name) => (core.summary ? labelOf(core.summary, name) : name);

function withInterval(found, show) {
  const range = found.low === null ? null : el("span", { class: "interval" }, ` [${show(found.low)}, ${show(found.high)}]`);
  return [show(found.value), range];
}

function winRateTable(core, ratings) {
  const rates = ratedWinRates(ratings);
  if (!rates.length) return null;
  const percent = (value) => fixed(100 * value, 1);
  return el("section", {},
    el("h4", {}, t("rating.win_rates")),
    el("p", { class: "quiet" }, t("rating.win_rates_note")),
    table(
      [t("rating.model_against"), `${t("rating.win_rate")} %`, t("rating.tally"), t("rating.prompts")],
      rates.map((one) => [
        el("bdi", {}, t("rating.against", { model: modelLabel(core, one.model), other: modelLabel(core, one.other) })),
        withInterval(one, percent),
        `${one.wins} · ${one.ties} · ${one.losses}`,
        whole(one.prompts),
      ]),
    ),
  );
}

function markTable(core, ratings, rubric) {
  const marks = ratedMarks(ratings, rubric);
  const names = [...rubric.marks, ...rubric.checks];
  const models = ratings.models.filter((model) => names.some((name) => marks(model, name)));
  if (!models.length) return null;
  const cell = (model, name) => {
    const found = marks(model, name);
    if (!found) return "–";
    return rubric.checks.includes(name) ? withInterval(found, (value) => `${fixed(100 * value, 0)} %`) : withInterval(found, (value) => fixed(value, 2));
  };
  return el("section", {},
    el("h4", {}, t("rating.marks_title", { part: partName(rubric.name) })),
    el("p", { class: "quiet" }, t("rating.marks_note")),
    table([t("rating.model"), ...names.map(criterionName)], models.map((model) => [el("bdi", {}, modelLabel(core, model)), ...names.map((name) => cell(model, name))])),
  );
}
