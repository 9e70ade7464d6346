// Conditions on rows, as charts and the reader set them, and how an address writes them down.
// Pure functions.
//
//   { kind: "is", column, values }               a field of the prompt is one of these
//   { kind: "length", low, high }                words (characters of Chinese) of the prompt
//   { kind: "score", metric, model, low, high }  low <= score < high
//   { kind: "gap", metric, a, b, low, high }     low <= score of b - score of a < high
//   { kind: "ended", model, value }              the answer ended so ("stop", "length", …)
//   { kind: "verdict", model, baseline, winner } what a judge said of the pair; "tie", null: unread
//   { kind: "ids", ids }                         these rows
//
// A bound that is null is open. "" among values stands for rows that have none.

const WHERE_FIELDS = {
  is: ["column"],
  length: ["low", "high"],
  score: ["metric", "model", "low", "high"],
  gap: ["metric", "a", "b", "low", "high"],
  ended: ["model", "value"],
  verdict: ["model", "baseline", "winner"],
  ids: [],
};
const WHERE_LISTS = { is: "values", ids: "ids" };
const WHERE_NUMBERS = new Set(["low", "high"]);

const wherePart = (value) => encoded(value ?? "").replaceAll("~", "%7E");

function unescaped(text) {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

// kind~field~field…, joined by ";": is~language~zh;score~reward~ppo~0.5~1
function writeWhere(conditions) {
  return conditions
    .map((one) => [one.kind, ...WHERE_FIELDS[one.kind].map((name) => one[name]), ...(one[WHERE_LISTS[one.kind]] ?? [])])
    .map((parts) => parts.map(wherePart).join("~"))
    .join(";");
}

// What can't be read, or names what these answers do not have, is left out.
function readWhere(text, answers) {
  return text.split(";").flatMap((item) => {
    try {
      const found = readCondition(item.split("~").map(decodeURIComponent));
      return found && knownCondition(found, answers) ? [found] : [];
    } catch {
      return [];
    }
  });
}

function readCondition([kind, ...parts]) {
  if (!Object.hasOwn(WHERE_FIELDS, kind)) return null;
  const names = WHERE_FIELDS[kind];
  if (parts.length < names.length) return null;
  const found = { kind };
  names.forEach((name, i) => {
    if (!WHERE_NUMBERS.has(name)) found[name] = parts[i];
    else found[name] = parts[i] === "" ? null : Number(parts[i]);
  });
  if (kind === "verdict") found.winner ||= null;
  const list = WHERE_LISTS[kind];
  if (list) found[list] = parts.slice(names.length);
  return found;
}

function knownCondition(one, answers) {
  const models = ["model", "baseline", "a", "b"].filter((name) => name in one).map((name) => one[name]);
  if (!models.every((name) => answers.models.includes(name))) return false;
  if ("metric" in one && !answers.metrics.some((metric) => metric.name === one.metric)) return false;
  if ("column" in one && !answers.columns.includes(one.column)) return false;
  const list = WHERE_LISTS[one.kind];
  if (list && !one[list].length) return false;
  return ["low", "high"].every((name) => one[name] === null || one[name] === undefined || Number.isFinite(one[name]));
}

const within = (value, { low, high }) => (low === null || value >= low) && (high === null || value < high);

// A function that says whether a row fits.
function conditionTest(answers, one) {
  if (one.kind === "is") {
    const column = answers.column(one.column);
    const values = new Set(one.values);
    return (row) => values.has(column[row] ?? "");
  }
  if (one.kind === "length") {
    const lengths = answers.lengths;
    return (row) => within(lengths[row], one);
  }
  if (one.kind === "score") {
    const values = answers.values(one.metric, one.model);
    return (row) => !Number.isNaN(values[row]) && within(values[row], one);
  }
  if (one.kind === "gap") {
    const [a, b] = [answers.values(one.metric, one.a), answers.values(one.metric, one.b)];
    return (row) => !Number.isNaN(b[row] - a[row]) && within(b[row] - a[row], one);
  }
  if (one.kind === "ended") {
    const reasons = answers.facts("finish_reason", one.model);
    return (row) => (reasons?.[row] ?? "") === one.value;
  }
  if (one.kind === "verdict") {
    return (row) =>
      answers.verdicts(row).some(
        (said) => said.model === one.model && said.baseline === one.baseline && (said.winner ?? null) === one.winner,
      );
  }
  const rows = new Set(one.ids.map((id) => answers.rowOf(id)));
  return (row) => rows.has(row);
}
