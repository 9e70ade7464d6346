// Where ratings go: into this browser, one key a rating, so that pages open side by side don't
// overwrite each other's. They are exported as JSON, in the form that `espalier evaluate` reads.

const RATING_KEY = "espalier-rating/";

class LocalRatings {
  constructor(answers, rubrics) {
    this.answers = answers;
    this.rubrics = rubrics;
    this.models = answers.models;
    this.memory = new Map();
    this.keeps = canKeep() ? "browser" : "nothing";
    this.made = null;
  }

  async about() {
    return { parts: this.models.length > 1 ? [{ name: PAIRS }, ...this.rubrics] : this.rubrics };
  }

  // The items in the order in which all raters are asked, made when first needed.
  items(part) {
    this.made ??= itemsOf(this.answers, this.models);
    const key = part === PAIRS ? PAIRS : "marks";
    this.orders ??= new Map();
    if (!this.orders.has(key)) {
      const byRow = new Map();
      for (const item of this.made[key]) {
        if (byRow.has(item.row)) byRow.get(item.row).push(item);
        else byRow.set(item.row, [item]);
      }
      this.orders.set(key, { order: shuffled(this.made[key], 1), byRow, byName: new Map() });
    }
    return this.orders.get(key);
  }

  // Its name is told when an item is first shown or rated: hashing all texts would take a while.
  named(part, item) {
    if (item && !item.name) {
      item.name = itemName(this.answers.prompt(item.row), item.sides);
      this.items(part).byName.set(item.name, item);
    }
    return item;
  }

  // The items about one prompt.
  ofRow(part, row) {
    return (this.items(part).byRow.get(row) ?? []).map((item) => this.named(part, item));
  }

  async next(part, rater, passed) {
    const given = this.given(part);
    const isOpen = (item) => !item.name || !given.get(item.name)?.has(rater);
    const { order } = this.items(part);
    const item = this.named(part, order.find((one) => isOpen(one) && !passed.includes(one.name)) ?? order.find(isOpen));
    return { item: item ? this.shown(part, item, rater, given) : null, ...this.far(part, rater, given) };
  }

  async item(part, rater, name) {
    const given = this.given(part);
    const item = this.items(part).byName.get(name);
    return { item: this.shown(part, item, rater, given), ...this.far(part, rater, given) };
  }

  async save(part, rater, value) {
    const item = this.items(part).byName.get(value.item);
    const turned = part === PAIRS && turnedFor(rater, item.name);
    const said = part === PAIRS
      ? { verdict: turnVerdict(value.verdict, turned), turned }
      : { marks: value.marks };
    const at = new Date().toISOString().replace(/\.\d+Z$/, "Z");
    this.keep(part, item.name, rater, { ...said, comment: value.comment, seconds: value.seconds, at, n: Date.now() });
    return this.far(part, rater, this.given(part));
  }

  shown(part, item, rater, given) {
    const turned = part === PAIRS && turnedFor(rater, item.name);
    const texts = item.sides.map((side) => side.text);
    const mine = given.get(item.name)?.get(rater);
    return {
      name: item.name,
      prompt: this.answers.prompt(item.row) ?? "",
      answers: turned ? texts.reverse() : texts,
      mine: mine ? { ...mine, verdict: mine.verdict && turnVerdict(mine.verdict, turned) } : null,
    };
  }

  far(part, rater, given) {
    const mine = [...given].filter(([, raters]) => raters.has(rater));
    mine.sort((one, other) => one[1].get(rater).n - other[1].get(rater).n);
    return { done: mine.length, left: this.items(part).order.length - mine.length, rated: mine.map(([name]) => name) };
  }

  // --- what is kept ----------------------------------------------------------------------------

  keep(part, name, rater, value) {
    const key = `${RATING_KEY}${part}/${name}/${rater}`;
    const kept = { id: this.answers.id(this.items(part).byName.get(name).row), ...value };
    if (this.keeps === "browser") localStorage.setItem(key, JSON.stringify(kept));
    else this.memory.set(key, kept);
  }

  // Of a part: by item, each rater's rating. Ratings of other texts than this page's are left alone.
  given(part) {
    const found = new Map();
    for (const [key, value] of this.kept()) {
      const [of, name, ...rest] = key.slice(RATING_KEY.length).split("/");
      const row = this.answers.rowOf(value.id);
      if (of !== part || row < 0 || !this.ofRow(part, row).some((item) => item.name === name)) continue;
      if (!found.has(name)) found.set(name, new Map());
      found.get(name).set(rest.join("/"), value);
    }
    return found;
  }

  kept() {
    if (this.keeps === "nothing") return [...this.memory];
    const found = [];
    for (let i = 0; i < localStorage.length; i += 1) {
      const key = localStorage.key(i);
      if (!key.startsWith(RATING_KEY)) continue;
      const value = keptRating(localStorage.getItem(key));
      if (value) found.push([key, value]);
    }
    return found;
  }

  parts() {
    return [PAIRS, ...this.rubrics.map((rubric) => rubric.name)];
  }

  async progress() {
    return { parts: this.parts().map((part) => this.progressOf(part)) };
  }

  progressOf(part) {
    const given = this.given(part);
    const counts = new Map();
    for (const raters of given.values()) {
      for (const rater of raters.keys()) counts.set(rater, (counts.get(rater) ?? 0) + 1);
    }
    const entries = [...given.values()].map((raters) => [...raters.values()]);
    return {
      part,
      items: this.items(part).order.length,
      rated: given.size,
      twice: entries.filter((one) => one.length > 1).length,
      raters: [...counts].sort().map(([name, done]) => ({ name, done })),
      agreement: agreements(this.rubrics.find((rubric) => rubric.name === part), entries),
    };
  }

  // --- out of the page, and into it ------------------------------------------------------------

  // Rows as a file of ratings has them: one for each pair of models that gave the two texts.
  rows() {
    const rows = [];
    for (const part of this.parts()) {
      for (const [name, raters] of this.given(part)) {
        const item = this.items(part).byName.get(name);
        for (const [rater, value] of raters) rows.push(...rowsOf(this.answers, item, rater, value));
      }
    }
    return rows;
  }

  // Takes rows that were exported here or on another machine; returns how many belong to this page.
  take(rows) {
    const before = new Map(this.parts().map((part) => [part, this.given(part)]));
    let taken = 0;
    for (const row of rows) {
      const found = placeOf(this, row);
      if (!found) continue;
      const known = before.get(found.part).get(found.name)?.get(found.rater);
      if (!known || known.at <= found.value.at) this.keep(found.part, found.name, found.rater, found.value);
      taken += 1;
    }
    return taken;
  }
}

// What this page wrote; null for anything else, as other files of this machine share the place.
function keptRating(text) {
  try {
    const value = JSON.parse(text);
    const marks = typeof value.marks === "object" && value.marks !== null;
    return marks || Object.hasOwn(WORTH, value.verdict) ? value : null;
  } catch {
    return null;
  }
}

function canKeep() {
  try {
    localStorage.setItem(`${RATING_KEY}?`, "");
    localStorage.removeItem(`${RATING_KEY}?`);
    return true;
  } catch {
    return false;
  }
}
