// Where a person rates: name, what to rate, one item after the other, how far everybody is.
// `ratings` says what comes and keeps what was said: a server (rating_remote.js) or this browser
// (rating_local.js).

const RATER_KEY = "espalier-rater";

class RatingDesk {
  constructor(root, ratings, options = {}) {
    this.root = root;
    this.ratings = ratings;
    // Parts of the page that only one of the two places has.
    this.options = options;
    this.passed = [];
    this.back = 0;
  }

  async start() {
    const about = await this.ratings.about();
    this.parts = about.parts;
    if (!this.parts.some((part) => part.name === this.part)) this.part = this.parts[0]?.name;
    this.rater = remembered(RATER_KEY) ?? "";
    if (get("rate") && this.rater) await this.openPart(get("rate"), false);
    else this.drawWelcome();
  }

  // There is something else to rate by: `name`, or (null) something less.
  async partsChanged(name) {
    this.parts = (await this.ratings.about()).parts;
    if (get("rate")) await this.openPart(name ?? this.part, name !== null);
    else if (name !== null) this.part = name;
    else if (!this.rubric) this.part = this.parts[0]?.name;
  }

  get rubric() {
    return this.parts.find((part) => part.name === this.part);
  }

  // --- who ---------------------------------------------------------------------------------------

  drawWelcome() {
    const input = el("input", { type: "text", name: "rater", value: this.rater, maxlength: "60", required: true, autocomplete: "name", autocapitalize: "words" });
    const begin = async (event) => {
      event.preventDefault();
      const name = input.value.trim().replace(/\s+/g, " ");
      if (!name) return;
      this.rater = name;
      remember(RATER_KEY, name);
      await this.openPart(this.part);
    };
    const first = el("form", { class: "rate-welcome card", on: { submit: begin } },
      el("p", {}, t("rating.welcome")),
      this.ratings.keeps === "nothing" ? el("p", { class: "notice warning" }, t("rating.keeps_nothing")) : null,
      el("div", { class: "fields" },
        el("label", { class: "field" }, el("span", {}, t("rating.your_name")), input),
        el("button", { class: "primary" }, t("rating.begin")),
      ),
    );
    refill(this.root, first, this.options.more?.() ?? null);
  }

  // --- one item after the other ------------------------------------------------------------------

  // `here`: the reader asked for it, so it comes into view.
  async openPart(name, here = true) {
    this.part = this.parts.some((part) => part.name === name) ? name : this.parts[0].name;
    set({ rate: this.part });
    this.passed = [];
    this.build();
    await this.advance(here);
  }

  build() {
    this.item = el("article", { class: "rate-item", tabindex: "-1", "aria-label": t("rating.item") });
    this.form = el("div", { class: "rate-form" });
    this.status = el("p", { class: "rate-status", role: "status" });
    this.bar = el("progress", { "aria-label": t("rating.progress") });
    this.counts = el("span", { class: "num quiet" });
    const tabs = this.parts.map((part) =>
      el("label", {},
        el("input", { type: "radio", name: "rate-part", value: part.name, checked: part.name === this.part, on: { change: () => this.openPart(part.name) } }),
        el("span", {}, partName(part.name)),
      ),
    );
    const head = el("header", { class: "rate-head" },
      el("fieldset", { class: "segments" }, el("legend", { class: "visually-hidden" }, t("rating.what")), el("div", {}, tabs)),
      el("div", { class: "rate-far" }, this.bar, this.counts),
      el("p", { class: "quiet" }, el("bdi", {}, this.rater), " · ",
        el("button", { type: "button", class: "link", on: { click: () => this.leave() } }, t("rating.other_rater"))),
    );
    this.far = el("details", { class: "more", on: { toggle: () => this.far.open && this.drawProgress() } },
      el("summary", {}, t("rating.progress_and_agreement")), el("div", { class: "rate-all" }));
    const desk = el("div", { class: "rate-desk", on: { keydown: (event) => this.key(event) } }, head, this.item, el("div", { class: `rate-actions ${this.part === PAIRS ? "" : "tall"}` }, this.form, this.status));
    refill(this.root, desk, el("p", { class: "rate-keys quiet" }, t(this.part === PAIRS ? "rating.keys_pairs" : "rating.keys_marks")), this.far, this.options.more?.() ?? null);
  }

  leave() {
    set({ rate: "" });
    this.drawWelcome();
    this.root.querySelector("input[name=rater]").select();
  }

  async advance(here = true) {
    this.show(await this.ratings.next(this.part, this.rater, this.passed), here);
  }

  show({ item, done, left, rated }, here = true) {
    this.current = item;
    this.rated = rated;
    this.bar.max = done + left || 1;
    this.bar.value = done;
    this.counts.textContent = t("rating.done_left", { done: whole(done), left: whole(left) });
    this.begun = Date.now();
    if (item) this.drawItem(item);
    else this.drawEnd(done);
    if (here) {
      this.item.focus({ preventScroll: true });
      this.item.scrollIntoView({ block: "nearest" });
    }
    if (this.far.open) this.drawProgress();
  }

  drawItem(item) {
    refill(this.item, shownItem(item));
    this.comment = el("input", { type: "text", name: "comment", value: item.mine?.comment ?? "", maxlength: "4000", "aria-label": t("rating.comment"), placeholder: t("rating.comment") });
    const save = el("button", { type: "button", class: "primary rate-save", disabled: true, on: { click: () => this.save({ marks: this.marking.marks() }) } }, t("rating.save"));
    const changed = () => { save.disabled = !Object.keys(this.marking.marks()).length; };
    this.marking = this.part === PAIRS ? null : markForm(this.rubric, item.mine, changed);
    if (this.marking) changed();
    refill(this.form,
      this.marking ? this.marking.node : pairForm(item.mine, (verdict) => this.save({ verdict })),
      el("div", { class: "rate-rest" },
        el("button", { type: "button", class: "rate-back", disabled: !this.before(), on: { click: () => this.goBack() } }, t("rating.back")),
        el("button", { type: "button", class: "rate-skip", on: { click: () => this.skip() } }, t("rating.skip")),
        this.comment,
        this.marking ? save : null,
      ),
    );
  }

  drawEnd(done) {
    refill(this.item, el("p", { class: "rate-end" }, t(done ? "rating.all_done" : "rating.nothing_left")));
    const after = this.parts[this.parts.indexOf(this.rubric) + 1]?.name;
    refill(this.form, el("div", { class: "rate-rest" },
      done ? el("button", { type: "button", class: "rate-back", on: { click: () => this.goBack() } }, t("rating.back")) : null,
      after ? el("button", { type: "button", class: "primary rate-on", on: { click: () => this.openPart(after) } }, t("rating.go_on", { part: partName(after) })) : null,
    ));
    this.far.open = true;
  }

  async save(said) {
    if (this.busy || !this.current) return;
    this.busy = true;
    this.form.inert = true;
    const value = { item: this.current.name, ...said, comment: this.comment.value.trim(), seconds: Math.round((Date.now() - this.begun) / 100) / 10 };
    this.say(t("rating.saving"));
    try {
      await this.ratings.save(this.part, this.rater, value);
      await this.advance();
      this.say(t("rating.saved"));
      this.options.changed?.();
    } catch (error) {
      this.say(t("rating.not_saved", { why: error.message }), true);
    } finally {
      this.busy = false;
      this.form.inert = false;
    }
  }

  skip() {
    if (this.busy || !this.current) return;
    this.passed = [...this.passed.filter((name) => name !== this.current.name), this.current.name];
    this.advance();
    this.say(t("rating.skipped"));
  }

  // The item that was rated before the one on show; undefined where it is the first.
  before() {
    const at = this.current ? this.rated.indexOf(this.current.name) : -1;
    return at < 0 ? this.rated.at(-1) : this.rated[at - 1];
  }

  async goBack() {
    const name = this.before();
    if (this.busy || !name) return;
    this.show(await this.ratings.item(this.part, this.rater, name));
    this.say(t("rating.again"));
  }

  say(text, trouble = false) {
    this.status.textContent = text ?? "";
    this.status.classList.toggle("trouble", trouble);
  }

  async drawProgress() {
    const tables = progressTables(await this.ratings.progress());
    refill(this.far.querySelector(".rate-all"), tables.length ? tables : el("p", { class: "empty" }, t("rating.none_yet")));
  }

  // --- keyboard ----------------------------------------------------------------------------------

  key(event) {
    const typing = event.target.closest("input[type=text], textarea, select");
    if (event.ctrlKey || event.metaKey || event.altKey || typing || !this.current) return;
    const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
    const arrow = key.startsWith("Arrow") && event.target.closest("input, .scroll");
    let done = true;
    if (key === "s") this.skip();
    else if (key === "u" || key === "Backspace") this.goBack();
    else if (this.part === PAIRS && key in VERDICT_KEYS && !arrow) this.save({ verdict: VERDICT_KEYS[key] });
    else if (this.marking && /^[1-5]$/.test(key)) done = this.marking.digit(Number(key));
    else if (this.marking && key === "Enter" && !event.target.closest("button")) {
      if (this.marking.full()) this.save({ marks: this.marking.marks() });
      else this.say(t("rating.mark_all"));
    } else done = false;
    if (done) event.preventDefault();
  }
}
