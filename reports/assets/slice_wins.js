// How often one model's answer scores better than another's to the same prompt. Pure functions over
// the `Answers` of answer_data.js.

// The rows of each group of prompts; null for a group that the examples can't filter by.
function rowsOfGroups(answers, by, groups) {
  const found = new Map(groups.map((group) => [group, null]));
  for (const group of groups) {
    const condition = groupCondition(by, group, answers.columns);
    if (!condition) continue;
    const fits = condition.kind === "is" ? null : conditionTest(answers, condition);
    found.set(group, fits ? Array.from({ length: answers.count }, (_, row) => row).filter(fits) : []);
  }
  if (answers.columns.includes(by)) answers.column(by).forEach((group, row) => found.get(group)?.push(row));
  return found;
}

// Of these rows: { wins, ties, losses, n, value, low, high }, the value with ties as halves and
// Wilson's interval; null where no row has both scores.
function winsOver(answers, rows, { metric, model, baseline }) {
  const gap = gapOf(answers, { metric, a: baseline, b: model });
  const found = { wins: 0, ties: 0, losses: 0 };
  for (const row of rows) {
    const size = gap(row);
    if (size > 0) found.wins += 1;
    else if (size < 0) found.losses += 1;
    else if (size === 0) found.ties += 1;
  }
  const n = found.wins + found.ties + found.losses;
  return n ? { ...found, n, ...shareWithInterval((found.wins + found.ties / 2) / n, n) } : null;
}
