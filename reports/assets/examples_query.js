// Which rows fit what the reader asks for, and in which order. Pure functions over the `Answers`
// of answer_data.js. What is asked:
//
//   { mode, a, b, metric, least, sort, where, pattern, shown, judges }
//
// `a` and `b` are the models that are compared, `metric` says by what (null: by nothing), `least`
// by how much the better one has to be better (0: by anything), `where` are conditions, `pattern` is a global regular expression or null, `shown` are the models that
// are searched, `judges` is the list of `judgesOf`.

const MODES = ["all", "different", "a", "b", "judges", "failures"];
const SORTS = ["set", "gap", "a", "b", "low", "high", "long", "slow"];
// Answers that ended so did not end by themselves.
const CUT_SHORT = new Set(["length", "error", "abort", "content_filter"]);

function matchingRows(answers, ask) {
  const tests = [
    ...ask.where.map((one) => conditionTest(answers, one)),
    modeTest(answers, ask),
    searchTest(answers, ask),
  ].filter(Boolean);
  const kept = [];
  for (let row = 0; row < answers.count; row += 1) {
    if (tests.every((fits) => fits(row))) kept.push(row);
  }
  return sortedRows(kept, sortKey(answers, ask));
}

function modeTest(answers, ask) {
  if (ask.mode === "different") return (row) => textsDiffer(answers, ask.shown, row);
  if (ask.mode === "judges") return (row) => judgesDisagree(ask.judges, row);
  if (ask.mode === "failures") {
    const metric = answers.metrics.find((one) => one.name === ask.metric);
    return (row) => ask.shown.some((model) => failuresOf(answers, model, row, metric).length);
  }
  if (ask.mode !== "a" && ask.mode !== "b") return null;
  const gap = gapOf(answers, ask);
  const wins = winTest(ask.least);
  return ask.mode === "b" ? (row) => wins(gap(row)) : (row) => wins(-gap(row));
}

// Whether anything is found by what a link asks; looked up only where it asks for one model's wins.
function anyRow(answers, ask) {
  if (!WINS.includes(ask.mode)) return true;
  const fits = modeTest(answers, { least: 0, ...ask });
  for (let row = 0; row < answers.count; row += 1) {
    if (fits(row)) return true;
  }
  return false;
}

// Whether a difference is a win. The least one comes from a slider, the difference from scores with
// a few digits: what is as large but for the last bit is as large.
const winTest = (least) => (least > 0 ? (gap) => gap >= least * (1 - 1e-9) : (gap) => gap > 0);

// The steps of the least difference: { step, most }, `most` being the last step that any pair of
// answers reaches; null where no two scores differ, or a score is a yes or a no.
function leastSteps(answers, ask) {
  const metric = answers.metrics.find((one) => one.name === ask.metric);
  if (!metric || metric.binary) return null;
  const gap = gapOf(answers, ask);
  let most = 0;
  for (let row = 0; row < answers.count; row += 1) {
    const size = Math.abs(gap(row));
    if (size > most) most = size;
  }
  if (!(most > 0)) return null;
  const power = 10 ** Math.floor(Math.log10(most / 50));
  const step = [1, 2, 5, 10].map((factor) => factor * power).find((one) => one >= most / 50 - 1e-12);
  return { step: tidy(step), most: tidy(Math.floor(most / step + 1e-9) * step) };
}

const tidy = (value) => Number(value.toPrecision(9));

// Score of b minus score of a, turned so that more is better for b; NaN where one is missing.
function gapOf(answers, { metric, a, b }) {
  const [first, second] = [answers.values(metric, a), answers.values(metric, b)];
  if (!first || !second) return () => NaN;
  const better = answers.metrics.find((one) => one.name === metric).higher_is_better ? 1 : -1;
  return (row) => better * (second[row] - first[row]);
}

// Answers are the same when they are but for spaces around them.
function textsDiffer(answers, models, row) {
  const first = answers.answer(models[0], row)?.trim() ?? null;
  return models.some((model) => (answers.answer(model, row)?.trim() ?? null) !== first);
}

// --- failures -------------------------------------------------------------------------------------

// Why an answer is a failure: "missing", "empty", "cut" (it did not end by itself), "refused",
// "wrong" (the chosen metric is a yes or no, and it is no). Nothing for a row without texts.
function failuresOf(answers, model, row, metric) {
  const found = [];
  const text = answers.answer(model, row);
  if (answers.hasText(row)) {
    if (text === null) found.push("missing");
    else if (!/\S/.test(text)) found.push("empty");
  }
  if (CUT_SHORT.has(answers.facts("finish_reason", model)?.[row])) found.push("cut");
  if (answers.values("refusal_rate", model)?.[row] === 1) found.push("refused");
  if (metric?.binary && metric.tested) {
    const value = answers.values(metric.name, model)[row];
    if (value === (metric.higher_is_better ? 0 : 1)) found.push("wrong");
  }
  return found;
}

// --- judges ---------------------------------------------------------------------------------------

// Who says which of two answers is better: the chosen metric, reward models, a judge's marks and
// verdicts, people. Each is { label, side(row) }: above 0 for b, below for a, 0 for a tie, NaN for
// nothing; a judge whose two orders disagree has `torn(row)`.
function judgesOf(answers, { metric, a, b }, summary) {
  const rubrics = new Set((summary?.judge?.rubrics ?? []).map((one) => `judge_${one.rubric}`));
  const rewards = new Set(
    (summary?.metrics ?? []).filter((one) => one.signature.startsWith("espalier.reward")).map((one) => one.name),
  );
  const asked = ({ name }) =>
    name === metric || name === "reward" || rewards.has(name) || rubrics.has(name) || name.startsWith("human_");
  const found = answers.metrics
    .filter((one) => one.tested && !/_win_rate$/.test(one.name) && asked(one))
    .map((one) => ({ name: one.name, label: one.label, side: gapOf(answers, { metric: one.name, a, b }) }));
  for (let row = 0; row < answers.count; row += 1) {
    if (!pairSaid(answers, a, b, row)) continue;
    found.push(pairJudge(answers, a, b));
    break;
  }
  return found;
}

// What a judge said of these two answers, whichever of them was the baseline.
function pairSaid(answers, a, b, row) {
  return answers.verdicts(row).find(
    (said) => (said.model === a && said.baseline === b) || (said.model === b && said.baseline === a),
  );
}

function pairJudge(answers, a, b) {
  const side = (row) => {
    const said = pairSaid(answers, a, b, row);
    if (!said || said.winner === null || said.winner === undefined) return NaN;
    return said.winner === b ? 1 : said.winner === a ? -1 : 0;
  };
  const torn = (row) => {
    const said = pairSaid(answers, a, b, row);
    return Boolean(said?.model_first && said.baseline_first && said.model_first !== said.baseline_first);
  };
  return { name: "verdicts", label: null, side, torn };
}

function judgesDisagree(judges, row) {
  const sides = judges.map((judge) => judge.side(row));
  return judges.some((judge) => judge.torn?.(row)) || (sides.some((side) => side > 0) && sides.some((side) => side < 0));
}

// --- search and order -----------------------------------------------------------------------------

// Prompt, reference and the answers shown; nothing is found where the page has no text.
function searchTest(answers, { pattern, shown }) {
  if (!pattern) return null;
  return (row) =>
    found(pattern, answers.prompt(row)) ||
    found(pattern, answers.reference(row)) ||
    shown.some((model) => found(pattern, answers.answer(model, row)));
}

// The value that rows are ordered by, the largest first; null: as in the set.
function sortKey(answers, ask) {
  const gap = gapOf(answers, ask);
  const better = answers.metrics.find((one) => one.name === ask.metric)?.higher_is_better ? 1 : -1;
  const score = answers.values(ask.metric, ask.b);
  const seconds = answers.facts("seconds", ask.b);
  return {
    gap: (row) => Math.abs(gap(row)),
    a: (row) => -gap(row),
    b: gap,
    low: (row) => -better * (score?.[row] ?? NaN),
    high: (row) => better * (score?.[row] ?? NaN),
    long: (row) => answers.answer(ask.b, row)?.length ?? NaN,
    slow: (row) => seconds?.[row] ?? NaN,
  }[ask.sort] ?? null;
}

// `rows` come in the order of the set. Those without a value come last; equal ones stay in the order of the set.
function sortedRows(rows, key) {
  if (!key) return rows;
  const values = new Float64Array((rows.at(-1) ?? -1) + 1);
  for (const row of rows) {
    const value = key(row);
    values[row] = Number.isNaN(value) ? -Infinity : value;
  }
  return rows.sort((x, y) => (values[x] === values[y] ? x - y : values[y] - values[x]));
}

// The mean of a metric over rows, of those that have it; NaN where none has.
function meanOver(values, rows) {
  let sum = 0;
  let count = 0;
  for (const row of rows) {
    if (Number.isNaN(values[row])) continue;
    sum += values[row];
    count += 1;
  }
  return count ? sum / count : NaN;
}
