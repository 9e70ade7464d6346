// Ratings as rows of a file, in the form that `espalier evaluate` and `espalier ratings` read, and
// what they say of the models. No nodes here.

// Rows of one rating: one for each model, or pair of models, that gave the texts.
function rowsOf(answers, item, rater, value) {
  const about = { id: answers.id(item.row), prompt: answers.prompt(item.row) };
  const by = { rater, comment: value.comment ?? "", seconds: value.seconds ?? null, rated_at: value.at };
  const [one, other] = item.sides;
  if (!other) return one.models.map((model) => ({ ...about, model, answer: one.text, ...value.marks, ...by }));
  const shown = { verdict: value.verdict, shown_first: value.turned ? "B" : "A" };
  return one.models.flatMap((a) =>
    other.models.map((b) => ({ ...about, model_a: a, model_b: b, answer_a: one.text, answer_b: other.text, ...shown, ...by })),
  );
}

// Where a row belongs: {part, name, rater, value}; null where it is none of this page's.
function placeOf(ratings, row) {
  if (typeof row !== "object" || row === null || typeof row.rater !== "string" || !row.rater) return null;
  const at = ratings.answers.rowOf(row.id ?? row.prompt_id);
  const value = {
    comment: typeof row.comment === "string" ? row.comment : "",
    seconds: isNumber(row.seconds) ? row.seconds : null,
    at: typeof row.rated_at === "string" ? row.rated_at : "",
    n: Date.parse(row.rated_at) || 0,
  };
  if (at < 0) return null;
  return Object.hasOwn(WORTH, row.verdict) ? pairPlace(ratings, row, at, value) : markPlace(ratings, row, at, value);
}

const gave = (side, model, text) =>
  text === undefined ? side.models.includes(model) : side.text.trim() === String(text).trim();

function pairPlace(ratings, row, at, value) {
  for (const item of ratings.ofRow(PAIRS, at)) {
    for (const swap of [false, true]) {
      const [a, b] = swap ? [...item.sides].reverse() : item.sides;
      if (!gave(a, row.model_a, row.answer_a) || !gave(b, row.model_b, row.answer_b)) continue;
      const turned = (row.shown_first === "B") !== swap;
      const said = { verdict: turnVerdict(row.verdict, swap), turned };
      return { part: PAIRS, name: item.name, rater: row.rater, value: { ...said, ...value } };
    }
  }
  return null;
}

function markPlace(ratings, row, at, value) {
  // Two rubrics may share a name: the one that has most of the row's marks.
  let [part, marks, most] = [null, {}, 0];
  for (const rubric of ratings.rubrics) {
    const found = marksOf(rubric, row);
    const count = Object.keys(found).length;
    if (count > most) [part, marks, most] = [rubric.name, found, count];
  }
  const item = part === null ? null : ratings.ofRow(part, at).find(({ sides: [side] }) => gave(side, row.model, row.answer));
  return item ? { part, name: item.name, rater: row.rater, value: { marks, ...value } } : null;
}

function marksOf(rubric, row) {
  const marks = rubric.marks.filter((name) => [1, 2, 3, 4, 5].includes(row[name]));
  const checks = rubric.checks.filter((name) => ["pass", "fail"].includes(row[name]));
  return Object.fromEntries([...marks, ...checks].map((name) => [name, row[name]]));
}

const markNumber = (mark) => (mark === "pass" ? 1 : mark === "fail" ? 0 : mark);

// How far raters agree on a part; `entries` holds each item's ratings, `rubric` is absent for pairs.
function agreements(rubric, entries) {
  const told = (what, level, units) => {
    const paired = units.filter((unit) => unit.length > 1);
    return { what, level, items: paired.length, alpha: alphaOf(paired, level), equal: equalShare(paired) };
  };
  if (!rubric) return [told(PAIRS, "nominal", entries.map((one) => one.map((value) => WORTH[value.verdict])))];
  return [...rubric.marks, ...rubric.checks].map((name) => {
    const units = entries.map((one) => one.filter((value) => Object.hasOwn(value.marks, name)).map((value) => markNumber(value.marks[name])));
    return told(name, rubric.checks.includes(name) ? "nominal" : "ordinal", units);
  });
}

// Win rates of the pairs of models, by all who rated.
function ratedWinRates(ratings) {
  const place = new Map(ratings.models.map((model, i) => [model, i]));
  const votes = [];
  for (const [name, raters] of ratings.given(PAIRS)) {
    const item = ratings.items(PAIRS).byName.get(name);
    for (const value of raters.values()) {
      for (const a of item.sides[0].models) {
        for (const b of item.sides[1].models) {
          const later = place.get(a) > place.get(b);
          const worth = WORTH[value.verdict];
          votes.push({ row: item.row, model: later ? a : b, other: later ? b : a, worth: later ? worth : 1 - worth });
        }
      }
    }
  }
  return winRates(votes, ratings.models);
}

// Mean marks: {model: {criterion: {value, low, high, n}}}; checks as the share that passed.
function ratedMarks(ratings, rubric) {
  const entries = new Map();
  for (const [name, raters] of ratings.given(rubric.name)) {
    const item = ratings.items(rubric.name).byName.get(name);
    for (const value of raters.values()) {
      for (const [criterion, mark] of Object.entries(value.marks)) {
        for (const model of item.sides[0].models) {
          const key = `${model}\u0000${criterion}`;
          entries.set(key, [...(entries.get(key) ?? []), [item.row, markNumber(mark)]]);
        }
      }
    }
  }
  return (model, criterion) => {
    const found = entries.get(`${model}\u0000${criterion}`);
    return found ? { ...meanWithInterval(found), n: found.length } : null;
  };
}

// The rows of a file of ratings: a JSON list, or one JSON object a line. Throws an Error that says
// what it is instead.
function ratingRows(text) {
  let rows;
  try {
    rows = JSON.parse(text);
  } catch {
    try {
      rows = text.split("\n").filter((line) => line.trim()).map((line) => JSON.parse(line));
    } catch {
      throw new Error(t("rating.not_json"));
    }
  }
  if (!Array.isArray(rows) || !rows.length || rows.some((row) => typeof row !== "object")) throw new Error(t("rating.not_list"));
  return rows;
}
