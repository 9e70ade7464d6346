"use strict";

const test = require("node:test");
const assert = require("node:assert/strict");
const { load } = require("./load.js");

const page = load(
  ["format.js", "rating_plan.js", "rating_rows.js"],
  [
    "hashOf", "shuffled", "turnedFor", "turnVerdict", "distinctAnswers", "itemsOf", "itemName", "alphaOf", "equalShare",
    "meanWithInterval", "shareWithInterval", "winRates", "rowsOf", "placeOf", "ratingRows", "agreements",
  ],
  'STRINGS = { "rating.not_json": "no JSON", "rating.not_list": "no list" };',
);

const ANSWERS = {
  count: 2,
  texts: { m: ["b", "same"], n: ["a", "same "], o: ["a", null] },
  hasText: () => true,
  prompt: (row) => ["one?", "two?"][row],
  id: (row) => `p${row}`,
  rowOf: (id) => ["p0", "p1"].indexOf(id),
  answer: (model, row) => ANSWERS.texts[model][row],
};
const RUBRIC = { name: "quality", marks: ["accuracy"], checks: ["safety"] };

function ratings() {
  const made = page.itemsOf(ANSWERS, ["m", "n", "o"]);
  for (const list of [made.pairs, made.marks]) {
    for (const item of list) item.name = page.itemName(ANSWERS.prompt(item.row), item.sides);
  }
  return { answers: ANSWERS, rubrics: [RUBRIC], ofRow: (part, row) => (part === "pairs" ? made.pairs : made.marks).filter((i) => i.row === row), made };
}

test("equal answers are one, and no pair", () => {
  const { made } = ratings();
  assert.equal(made.pairs.length, 1);
  assert.deepEqual(made.pairs[0].sides, [{ text: "a", models: ["n", "o"] }, { text: "b", models: ["m"] }]);
  assert.deepEqual(made.marks.map((item) => item.sides[0].models), [["n", "o"], ["m"], ["m", "n"]]);
});

test("a name is of the texts alone", () => {
  const side = (text) => ({ text, models: [] });
  const name = page.itemName("p", [side("a"), side("b")]);
  assert.equal(name, page.itemName("p", [{ text: "a", models: ["x"] }, side("b")]));
  const others = [page.itemName("q", [side("a"), side("b")]), page.itemName("p", [side("ab"), side("")]), page.itemName("p", [side("b"), side("a")]), page.itemName("p", [side("a")])];
  assert.equal(new Set([name, ...others]).size, 5);
  const hashes = new Set();
  for (let i = 0; i < 20_000; i += 1) hashes.add(page.hashOf(`text ${i}`));
  assert.equal(hashes.size, 20_000);
});

test("an order is a permutation, the same each time; sides are even", () => {
  const list = Array.from({ length: 1000 }, (_, i) => i);
  const order = page.shuffled(list, 1);
  assert.deepEqual(order, page.shuffled(list, 1));
  assert.notDeepEqual(order, list);
  assert.deepEqual([...order].sort((a, b) => a - b), list);
  const turned = list.filter((i) => page.turnedFor("Ann", `item ${i}`)).length;
  assert.ok(turned > 420 && turned < 580, `${turned}`);
  const differ = list.filter((i) => page.turnedFor("Ann", `item ${i}`) !== page.turnedFor("Bo", `item ${i}`)).length;
  assert.ok(differ > 420 && differ < 580, `${differ}`);
});

test("a verdict turned twice is the same", () => {
  for (const verdict of ["A", "B", "tie"]) {
    assert.equal(page.turnVerdict(page.turnVerdict(verdict, true), true), verdict);
    assert.equal(page.turnVerdict(verdict, false), verdict);
  }
  assert.equal(page.turnVerdict("A", true), "B");
});

// Krippendorff 2011, "Computing Krippendorff's Alpha-Reliability", data of section E: 4 observers,
// 12 units, values 1 to 5, missing data. Nominal 0.743, ordinal 0.815.
const PUBLISHED = [
  [1, 1, 1], [2, 2, 3, 2], [3, 3, 3, 3], [3, 3, 3, 3], [2, 2, 2, 2], [1, 2, 3, 4], [4, 4, 4, 4], [1, 1, 2, 1], [2, 2, 2, 2], [5, 5, 5], [1, 1], [3],
];

test("alpha is as published", () => {
  assert.ok(Math.abs(page.alphaOf(PUBLISHED, "nominal") - 0.743) < 5e-4);
  assert.ok(Math.abs(page.alphaOf(PUBLISHED, "ordinal") - 0.815) < 5e-4);
  assert.equal(page.alphaOf([[1], [2]], "nominal"), null);
  assert.equal(page.alphaOf([[1, 1], [1, 1]], "nominal"), null);
  assert.equal(page.equalShare([[1, 1, 2], [3, 3]]), 2 / 4);
  assert.equal(page.equalShare([[1]]), null);
});

test("Wilson's interval, by the closed form", () => {
  // 8 of 10: 0.4902 to 0.9433 (Newcombe 1998, method 3, as any table has it); 10 of 10: 0.7225 to 1.
  const one = page.shareWithInterval(0.8, 10);
  assert.ok(Math.abs(one.low - 0.4902) < 1e-4 && Math.abs(one.high - 0.9433) < 1e-4);
  const all = page.shareWithInterval(1, 10);
  assert.ok(Math.abs(all.low - 0.7225) < 1e-4 && Math.abs(all.high - 1) < 1e-9);
});

test("a mean has an interval over prompts, if there are enough", () => {
  const entries = Array.from({ length: 200 }, (_, i) => [i, 1 + (i % 5)]);
  const { value, low, high } = page.meanWithInterval(entries);
  const half = 1.96 * Math.sqrt(2 / 200);
  assert.equal(value, 3);
  assert.ok(Math.abs(low - (3 - half)) < 0.05 && Math.abs(high - (3 + half)) < 0.05);
  assert.equal(page.meanWithInterval(entries.slice(0, 5)).low, null);
  // All ratings of one prompt are one draw.
  assert.equal(page.meanWithInterval(entries.map(([, mark]) => [0, mark])).low, null);
});

test("win rates count a prompt once, however many rated it", () => {
  const vote = (row, worth) => ({ row, model: "n", other: "m", worth });
  const [rate] = page.winRates([vote(0, 1), vote(0, 1), vote(0, 0.5), vote(1, 0)], ["m", "n"]);
  assert.equal(rate.prompts, 2);
  assert.equal(rate.votes, 4);
  assert.deepEqual([rate.wins, rate.ties, rate.losses], [2, 1, 1]);
  assert.ok(Math.abs(rate.value - (2.5 / 3 + 0) / 2) < 1e-12);
});

test("rows go out and come in again", () => {
  const all = ratings();
  const at = "2026-01-02T03:04:05Z";
  const [pair] = all.made.pairs;
  const rows = page.rowsOf(ANSWERS, pair, "Ann", { verdict: "B", turned: true, comment: "c", seconds: 2, at });
  assert.equal(rows.length, 2);
  assert.deepEqual(rows[1], {
    id: "p0", prompt: "one?", model_a: "o", model_b: "m", answer_a: "a", answer_b: "b", verdict: "B", shown_first: "B",
    rater: "Ann", comment: "c", seconds: 2, rated_at: at,
  });
  const back = page.placeOf(all, rows[0]);
  assert.deepEqual([back.part, back.name, back.rater, back.value.verdict, back.value.turned], ["pairs", pair.name, "Ann", "B", true]);
  // The same verdict told from the other side.
  const other = { ...rows[0], model_a: "m", model_b: "n", answer_a: "b", answer_b: "a", verdict: "A", shown_first: "A" };
  assert.equal(page.placeOf(all, other).value.verdict, "B");
  assert.equal(page.placeOf(all, other).value.turned, true);
  const [marked] = page.rowsOf(ANSWERS, all.made.marks[0], "Bo", { marks: { accuracy: 4, safety: "fail" }, at });
  assert.deepEqual(page.placeOf(all, marked).value.marks, { accuracy: 4, safety: "fail" });
});

test("a row of the server's export is found by its texts", () => {
  const all = ratings();
  const row = { item: "0-1", prompt_id: "p0", answer_a: "a", answer_b: "b", verdict: "A", rater: "Cy", shown_first: "A", rated_at: "2026-01-01T00:00:00Z" };
  assert.equal(page.placeOf(all, row).name, all.made.pairs[0].name);
});

test("what belongs to other answers, or is no rating, has no place", () => {
  const all = ratings();
  const row = { id: "p0", model_a: "n", model_b: "m", answer_a: "a", answer_b: "b", verdict: "A", rater: "Ann" };
  assert.ok(page.placeOf(all, row));
  for (const change of [{ answer_a: "changed" }, { id: "p9" }, { rater: "" }, { rater: 5 }, { verdict: "x" }, { verdict: "__proto__" }, { id: undefined }]) {
    assert.equal(page.placeOf(all, { ...row, ...change }), null, JSON.stringify(change));
  }
  for (const none of [null, 5, "text", []]) assert.equal(page.placeOf(all, none), null);
  const marks = { id: "p0", model: "m", rater: "Ann", accuracy: 9, safety: "maybe" };
  assert.equal(page.placeOf(all, marks), null);
});

test("a file is a list, or lines", () => {
  assert.deepEqual(page.ratingRows('[{"a": 1}]'), [{ a: 1 }]);
  assert.deepEqual(page.ratingRows('{"a": 1}\n{"a": 2}\n'), [{ a: 1 }, { a: 2 }]);
  assert.throws(() => page.ratingRows("id,verdict\n"), /no JSON/);
  assert.throws(() => page.ratingRows("5"), /no list/);
  assert.throws(() => page.ratingRows("[]"), /no list/);
});

test("agreement is told for each criterion", () => {
  const entry = (accuracy, safety) => ({ marks: { accuracy, safety } });
  const [accuracy, safety] = page.agreements(RUBRIC, [[entry(4, "pass"), entry(2, "pass")], [entry(1, "fail")]]);
  assert.deepEqual([accuracy.what, accuracy.level, accuracy.items, accuracy.equal], ["accuracy", "ordinal", 1, 0]);
  assert.deepEqual([safety.level, safety.equal, safety.alpha], ["nominal", 1, null]);
});
