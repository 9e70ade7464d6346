"use strict";

const test = require("node:test");
const assert = require("node:assert/strict");
const { load } = require("./load.js");

const found = load(
  ["examples.js", "search.js", "answer_data.js", "state.js", "examples_where.js", "examples_query.js", "examples_text.js", "examples_export.js", "virtual_list.js"],
  [
    "compileSearch", "explodes", "leastSteps", "writeWhere", "readWhere", "matchingRows", "judgesOf", "failuresOf", "meanOver", "cutText", "cutParts",
    "seenParts", "csvCell", "examplesCsv", "examplesJsonl", "Sums", "FOLDED", "anyRow",
  ],
);
const { compileSearch, explodes, leastSteps, writeWhere, readWhere, matchingRows, judgesOf, failuresOf } = found;

// Six prompts, two models; the same methods as the `Answers` of the page.
function answersOf() {
  const scores = {
    reward: { a: [1, 2, 3, NaN, 5, 0], b: [2, 1, 3, 1, 9, 0] },
    perplexity: { a: [9, 8, 7, 6, 5, 4], b: [1, 9, 7, 6, 4, 5] },
    exact: { a: [0, 1, 0, 1, 1, 0], b: [1, 1, 0, 0, 1, 0] },
  };
  const texts = {
    a: ["one", " two ", "three", "four", "", "six"],
    b: ["ONE", "two", "drei", "four", "五五五", null],
  };
  const columns = {
    level: ["1 low: 1–3", "1 low: 1–3", "2 high: 4–9", null, null, null],
    language: ["en", "en", "zh", "zh", "en", null], category: ["x", "y", "x", "y", "x", "y"], source: new Array(6).fill(null),
  };
  const ended = { a: ["stop", "length", "stop", "stop", "stop", "stop"], b: ["stop", "stop", "stop", "error", "stop", null] };
  const said = [
    [{ model: "b", baseline: "a", winner: "b", model_first: "b", baseline_first: "b" }],
    [{ model: "b", baseline: "a", winner: "tie", model_first: "b", baseline_first: "a" }],
    [],
    [{ model: "b", baseline: "a", winner: "tie", equal: true }],
    [{ model: "b", baseline: "a", winner: "a", model_first: "a", baseline_first: "a" }],
    [{ model: "b", baseline: "a", winner: null }],
  ];
  return {
    count: 6,
    models: ["a", "b"],
    columns: ["language", "category", "source", "level"],
    lengths: [3, 5, 8, 13, 21, 34],
    metrics: [
      { name: "reward", label: "Reward", higher_is_better: true, tested: true, binary: false, format: "number" },
      { name: "perplexity", label: "Perplexity", higher_is_better: false, tested: true, binary: false, format: "number" },
      { name: "exact", label: "Exact", higher_is_better: true, tested: true, binary: true, format: "percent" },
    ],
    id: (row) => `id${row}`,
    rowOf: (id) => (/^id[0-5]$/.test(id) ? Number(id.slice(2)) : -1),
    hasText: () => true,
    prompt: (row) => `prompt ${row}`,
    reference: (row) => (row === 2 ? "Drei" : null),
    answer: (model, row) => texts[model][row],
    column: (name) => columns[name],
    values: (metric, model) => scores[metric]?.[model] ?? null,
    facts: (name, model) => (name === "finish_reason" ? ended[model] : null),
    marks: () => [],
    verdicts: (row) => said[row],
  };
}

const answers = answersOf();
const asked = (more = {}) => {
  const ask = { mode: "all", a: "a", b: "b", metric: "reward", sort: "set", where: [], pattern: null, shown: ["a", "b"], ...more };
  return { ...ask, judges: judgesOf(answers, ask, null) };
};
const rows = (more) => matchingRows(answers, asked(more));

test("a win can be asked to be large", () => {
  assert.deepEqual(rows({ mode: "b", least: 1 }), [0, 4]);
  assert.deepEqual(rows({ mode: "b", least: 1.5 }), [4]);
  assert.deepEqual(rows({ mode: "b", least: 5 }), []);
  assert.deepEqual(rows({ mode: "a", least: 1, metric: "perplexity" }), [1, 5]);
  // The differences of the reward are 1, 1, 0, none, 4 and 0; steps are round and end within them.
  assert.deepEqual(leastSteps(answers, asked({})), { step: 0.1, most: 4 });
  assert.deepEqual(leastSteps(answers, asked({ metric: "perplexity" })), { step: 0.2, most: 8 });
  assert.equal(leastSteps(answers, asked({ metric: "exact" })), null);
  assert.equal(leastSteps(answers, asked({ b: "a" })), null);
  // 0.7 - 0.4 is less than 0.3 in the last bit.
  const close = { ...answersOf(), values: (_, model) => new Array(6).fill(model === "b" ? 0.7 : 0.4) };
  assert.deepEqual(matchingRows(close, asked({ mode: "b", least: 0.3 })).length, 6);
});

test("a link to lost answers is offered where there are any", () => {
  const asked = (metric, a, b) => found.anyRow(answers, { mode: "a", metric, a, b });
  assert.equal(asked("exact", "a", "b"), true);
  assert.equal(asked("exact", "b", "a"), true);
  const never = { ...answers, values: (_, model) => ({ a: [0, 0, NaN], b: [1, 0, 1] })[model], count: 3 };
  assert.equal(found.anyRow(never, { mode: "a", metric: "exact", a: "a", b: "b" }), false);
  assert.equal(found.anyRow(never, { mode: "a", metric: "exact", a: "b", b: "a" }), true);
});

test("expressions that no browser finishes are told from those that only look like it", () => {
  for (const query of ["(a+)+$", "(.|\\s)*x", "(a|ab)*", "((a*)b)*", "(?:x{1,3})*", "(?<n>a+){2,}"]) {
    assert.equal(explodes(query), true, query);
    assert.deepEqual([compileSearch(query).plain, compileSearch(query).slow], [true, true]);
  }
  for (const query of ["a+b+", "(foo|bar)+", "(a+)?", "[(+)]+", "\\(a+\\)+", "(ab)+c*", "^how.*item 00[0-4]|下面.*item 01", "", "(", "+"]) {
    assert.equal(explodes(query), false, query);
    assert.equal(compileSearch(query).slow, false);
  }
});

test("modes", () => {
  assert.deepEqual(rows({}), [0, 1, 2, 3, 4, 5]);
  assert.deepEqual(rows({ mode: "different" }), [0, 2, 4, 5]);
  assert.deepEqual(rows({ mode: "different", shown: ["a"] }), []);
  assert.deepEqual(rows({ mode: "b" }), [0, 4]);
  assert.deepEqual(rows({ mode: "a" }), [1]);
  // Of perplexities the lower one is better.
  assert.deepEqual(rows({ mode: "b", metric: "perplexity" }), [0, 4]);
  assert.deepEqual(rows({ mode: "a", metric: "perplexity" }), [1, 5]);
  // 1: cut off; 3: an error; 4: empty; 5: no answer.
  assert.deepEqual(rows({ mode: "failures" }), [1, 3, 4, 5]);
  assert.deepEqual(rows({ mode: "failures", metric: "exact" }), [0, 1, 2, 3, 4, 5]);
  assert.deepEqual(failuresOf(answers, "b", 3, answers.metrics[2]), ["cut", "wrong"]);
});

test("judges disagree where they name different answers, or one of them both", () => {
  // 1: its two orders disagree; 4: the reward says b, the judge a.
  assert.deepEqual(rows({ mode: "judges" }), [1, 4]);
  // 5: people's and the metric's word is missing, perplexity alone is no disagreement.
  assert.deepEqual(rows({ mode: "judges", metric: "perplexity" }), [1, 4]);
  assert.deepEqual(rows({ mode: "judges", metric: "exact" }), [1, 4]);
  assert.equal(asked().judges.length, 2);
  assert.equal(asked({ metric: "exact" }).judges.length, 3);
});

test("search looks at prompt, reference and the answers shown", () => {
  const search = (query, shown = ["a", "b"]) => rows({ pattern: compileSearch(query).pattern, shown });
  assert.deepEqual(search("drei"), [2]);
  assert.deepEqual(search("^(one|TWO)$"), [0, 1]);
  assert.deepEqual(search("五{3}"), [4]);
  assert.deepEqual(search("五", ["a"]), []);
  assert.deepEqual(search("prompt [03]"), [0, 3]);
});

test("order", () => {
  assert.deepEqual(rows({ sort: "gap" }), [4, 0, 1, 2, 5, 3]);
  assert.deepEqual(rows({ sort: "b" }), [4, 0, 2, 5, 1, 3]);
  assert.deepEqual(rows({ sort: "a" }), [1, 2, 5, 0, 4, 3]);
  assert.deepEqual(rows({ sort: "low" }), [5, 1, 3, 0, 2, 4]);
  assert.deepEqual(rows({ sort: "high", metric: "perplexity" }), [0, 4, 5, 3, 2, 1]);
  assert.deepEqual(rows({ sort: "long" }), [2, 3, 0, 1, 4, 5]);
  assert.deepEqual(rows({ sort: "slow" }), [0, 1, 2, 3, 4, 5]);
});

const CONDITIONS = [
  [{ kind: "is", column: "language", values: ["zh"] }, [2, 3]],
  [{ kind: "is", column: "language", values: ["zh", ""] }, [2, 3, 5]],
  [{ kind: "length", low: 5, high: 21 }, [1, 2, 3]],
  [{ kind: "length", low: null, high: 4 }, [0]],
  [{ kind: "score", metric: "reward", model: "a", low: 2, high: 5 }, [1, 2]],
  [{ kind: "score", metric: "reward", model: "b", low: 3, high: null }, [2, 4]],
  [{ kind: "gap", metric: "reward", a: "a", b: "b", low: 1, high: 4 }, [0]],
  [{ kind: "ended", model: "b", value: "error" }, [3]],
  [{ kind: "verdict", model: "b", baseline: "a", winner: "tie" }, [1, 3]],
  [{ kind: "verdict", model: "b", baseline: "a", winner: null }, [5]],
  [{ kind: "ids", ids: ["id4", "id2", "other"] }, [2, 4]],
];

test("conditions filter, and an address holds them", () => {
  for (const [condition, expected] of CONDITIONS) {
    assert.deepEqual(rows({ where: [condition] }), expected);
    assert.deepEqual(readWhere(writeWhere([condition]), answers), [condition]);
  }
  const all = CONDITIONS.map(([condition]) => condition);
  assert.deepEqual(readWhere(writeWhere(all), answers), all);
  assert.deepEqual(rows({ where: [CONDITIONS[0][0], CONDITIONS[2][0]] }), [2, 3]);
});

test("names may hold what separates, and what is unknown or broken is left out", () => {
  const odd = { ...answers, models: ["a~b;c", "%~;"] };
  const conditions = [{ kind: "ended", model: "a~b;c", value: "x;y~z%" }, { kind: "is", column: "category", values: ["~", ";", "%41"] }];
  assert.deepEqual(readWhere(writeWhere(conditions), odd), conditions);
  for (const text of ["", "x", "is", "is~language", "is~id~x", "score~reward~nobody~1~2", "score~no~a~1~2", "score~reward~a~x~2", "%", "__proto__~a", "constructor", "gap~reward~a~b~1"]) {
    assert.deepEqual(readWhere(text, answers), [], text);
  }
});

test("a mean leaves out what has no score", () => {
  assert.equal(found.meanOver([1, NaN, 3], [0, 1, 2]), 2);
  assert.ok(Number.isNaN(found.meanOver([NaN], [0])));
});

test("a long text is cut, around the first match, never within a character", () => {
  const limit = { letters: 100, lines: 5 };
  assert.deepEqual(found.cutText("short", null, limit), [0, 5]);
  assert.deepEqual(found.cutText("x".repeat(300), null, limit), [0, 100]);
  assert.deepEqual(found.cutText("a\n".repeat(50), null, limit), [0, 9]);
  const text = `${"x".repeat(250)}needle${"x".repeat(250)}`;
  const [start, end] = found.cutText(text, compileSearch("needle").pattern, limit);
  assert.ok(text.slice(start, end).includes("needle") && start > 0 && end - start < 250);
  const faces = "😀".repeat(200);
  for (const letters of [99, 100, 101]) {
    const [, stop] = found.cutText(faces, null, { letters, lines: 5 });
    assert.equal(stop % 2, 0);
  }
  assert.deepEqual(found.cutText("", null, limit), [0, 0]);
  assert.deepEqual(found.cutText("a\nb\nc", null, limit), [0, 5]);
});

test("what can't be seen is told by its number", () => {
  assert.deepEqual(found.seenParts("a\u202eb\u001b[0m\n\tz"), ["a", { code: "202E" }, "b", { code: "001B" }, "[0m\n\tz"]);
  assert.deepEqual(found.seenParts("\ud800"), [{ code: "D800" }]);
  assert.deepEqual(found.seenParts("好😀"), ["好😀"]);
});

test("a difference is cut by letters and by changes", () => {
  const parts = [{ kind: "same", text: "abcdef" }, { kind: "ins", text: "gh" }, { kind: "same", text: "ij" }];
  assert.deepEqual(found.cutParts(parts, { letters: 7, changes: 9 }), [parts[0], { kind: "ins", text: "g" }]);
  assert.deepEqual(found.cutParts(parts, { letters: 100, changes: 2 }), parts.slice(0, 2));
});

// RFC 4180, read by a small machine of its own.
function readCsv(text) {
  const table = [[""]];
  let quoted = false;
  for (let i = 0; i < text.length; i += 1) {
    const line = table.at(-1);
    if (quoted && text[i] === '"' && text[i + 1] === '"') line[line.length - 1] += text[(i += 1)];
    else if (text[i] === '"') quoted = !quoted;
    else if (!quoted && text[i] === ",") line.push("");
    else if (!quoted && text[i] === "\r") table.push([""]) && (i += 1);
    else line[line.length - 1] += text[i];
  }
  return table.slice(0, -1);
}

test("CSV can be read back; a formula is none", () => {
  const [head, ...lines] = readCsv(found.examplesCsv(answers, [4, 0], ["b"]).join(""));
  const told = lines.map((line) => Object.fromEntries(head.map((name, i) => [name, line[i]])));
  assert.deepEqual(told.map((one) => one.id), ["id4", "id0"]);
  assert.equal(told[0]["b: answer"], "五五五");
  assert.equal(told[0]["b: reward"], "9");
  assert.equal(told[0]["b: finish_reason"], "stop");
  assert.equal(told[0].reference, "");
  assert.deepEqual(told.map((one) => one["group: level"]), ["", "1 low: 1–3"]);
  assert.equal(found.csvCell("=1+1"), "'=1+1");
  assert.equal(found.csvCell('@a,"b"\n'), `"'@a,""b""\n"`);
  assert.equal(found.csvCell(NaN), "");
  assert.equal(found.csvCell(-1.5), "-1.5");
});

test("JSON lines hold everything of a row", () => {
  const [one] = found.examplesJsonl(answers, [3], ["a", "b"]).map((line) => JSON.parse(line));
  assert.deepEqual(one.answers[0], {
    model: "a", answer: "four", scores: { reward: null, perplexity: 6, exact: 1 }, finish_reason: "stop", judge: [],
  });
  assert.equal(one.id, "id3");
  assert.deepEqual(one.groups, { level: null });
  assert.equal(one.verdicts[0].equal, true);
});

test("sums of heights, against a loop", () => {
  const heights = Array.from({ length: 137 }, (_, i) => ((i * 7919) % 97) + 3);
  const sums = new found.Sums(heights);
  const change = (i, value) => (sums.set(i, value), (heights[i] = value));
  change(0, 500);
  change(136, 1);
  change(64, 250);
  const before = (n) => heights.slice(0, n).reduce((sum, one) => sum + one, 0);
  for (let n = 0; n <= heights.length; n += 1) assert.equal(sums.before(n), before(n));
  for (let y = 0; y < before(137) + 50; y += 13) {
    const expected = heights.findIndex((_, i) => before(i + 1) > y);
    assert.equal(sums.at(y), expected < 0 ? 136 : expected);
  }
  assert.equal(new found.Sums([]).before(0), 0);
});

test("half of a character does no harm to an address", () => {
  const text = writeWhere([{ kind: "is", column: "level", values: ["a\ud800b~;"] }]);
  assert.equal(readWhere(text, answers)[0].values[0], "a\ufffdb~;");
});
