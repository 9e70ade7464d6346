"use strict";

const test = require("node:test");
const assert = require("node:assert/strict");
const { load } = require("./load.js");

const { binsOf, roundEdges, countIn } = load(
  ["format.js", "distributions.js"],
  ["binsOf", "roundEdges", "countIn"],
);
const { groupCondition } = load(["linked.js"], ["groupCondition"]);
const { neighbour } = load(["grid.js"], ["neighbour"]);
const { recordsOf, indexScores } = load(["overview.js"], ["recordsOf", "indexScores"]);

function random(seed) {
  let state = seed;
  return () => {
    state = (state * 48271) % 2147483647;
    return state / 2147483647;
  };
}

// --- bins -----------------------------------------------------------------------------------------

test("few different values have a bin each, whole numbers without gaps", () => {
  assert.deepEqual(binsOf([0, 1, 1, 0]).map(({ value, low, high }) => [value, low, high]), [[0, 0, 1], [1, 1, null]]);
  assert.deepEqual(binsOf([1, 3, 5, 5]).map(({ value }) => value), [1, 2, 3, 4, 5]);
  assert.deepEqual(binsOf([0.5, 0.25, 0.5]).map(({ low, high }) => [low, high]), [[0.25, 0.5], [0.5, null]]);
  assert.deepEqual(binsOf([7]).map(({ low, high }) => [low, high]), [[7, null]]);
  assert.deepEqual(binsOf([]), []);
});

test("every value is in the one bin whose bounds hold it, and counted once", () => {
  const next = random(11);
  for (let round = 0; round < 300; round += 1) {
    const scale = 10 ** Math.floor(next() * 8 - 4);
    const heavy = next() < 0.4;
    const values = Array.from({ length: 20 + Math.floor(next() * 300) }, () => {
      const value = (next() - 0.4) * scale;
      return heavy && next() < 0.01 ? value * 1000 : value;
    });
    const bins = binsOf(values);
    assert.ok(bins.length <= 12, `${bins.length} bins`);
    const counts = countIn(bins, values);
    // By the definition of a bin: from low to below high, the ends open or holding the last value.
    const naive = bins.map(({ low, high, last }) =>
      values.filter((value) => (low === null || value >= low) && (high === null || last || value < high)).length,
    );
    assert.deepEqual(counts, naive);
    assert.equal(counts.reduce((sum, count) => sum + count, 0), values.length);
    for (let i = 1; i < bins.length; i += 1) assert.equal(bins[i].low, bins[i - 1].high);
  }
});

test("far outliers do not flatten the rest", () => {
  const values = [...Array.from({ length: 990 }, (_, i) => i / 990), ...Array.from({ length: 10 }, (_, i) => 1e6 + i)];
  const bins = binsOf(values);
  assert.equal(bins.at(-1).high, null);
  assert.ok(bins.at(-1).low < 2);
  assert.ok(bins.length > 5);
});

test("nearly all scores the same, and a few of their own", () => {
  const values = [...new Array(5000).fill(0), ...Array.from({ length: 20 }, (_, i) => 1.5 ** i)];
  const bins = binsOf(values);
  assert.ok(bins.every(({ low, high }) => Number.isFinite(low) && Number.isFinite(high)));
  assert.equal(countIn(bins, values).reduce((sum, count) => sum + count, 0), values.length);
});

test("edges are round and hold both ends", () => {
  for (const [low, high] of [[-4.29, 2.06], [0.001, 0.0123], [1, 1000], [-3, -1], [0.5, 0.50001]]) {
    const edges = roundEdges(low, high, 12);
    assert.ok(edges[0] <= low && edges.at(-1) > high, `${edges}`);
    assert.ok(edges.length <= 13);
    const step = edges[1] - edges[0];
    const digits = step / 10 ** Math.floor(Math.log10(step) + 1e-9);
    assert.ok([1, 2, 2.5, 5].some((one) => Math.abs(one - digits) < 1e-6), `${step}`);
  }
});

// --- what a chart opens ---------------------------------------------------------------------------

test("groups become conditions where the examples know them", () => {
  assert.deepEqual(groupCondition("language", "zh", ["language", "level"]), { kind: "is", column: "language", values: ["zh"] });
  assert.deepEqual(groupCondition("length", "2 middle: 8–9", []), { kind: "length", low: 8, high: 10 });
  assert.equal(groupCondition("length", "none of them", []), null);
  assert.equal(groupCondition("difficulty", "hard", ["language"]), null);
  assert.deepEqual(groupCondition("difficulty", "1 low: 1–3", ["difficulty"]), { kind: "is", column: "difficulty", values: ["1 low: 1–3"] });
});

// --- keys -----------------------------------------------------------------------------------------

test("arrows lead to the neighbour, over places without a button", () => {
  const rows = [["a", null, "b"], [null, null, "c"], ["d", "e", null]];
  const path = { a: { ArrowRight: "b", ArrowDown: "d", End: "b" }, b: { ArrowLeft: "a", ArrowDown: "c" }, d: { ArrowUp: "a", ArrowRight: "e" }, e: { ArrowUp: null, Home: "d", ArrowRight: null } };
  for (const [from, keys] of Object.entries(path)) {
    for (const [key, to] of Object.entries(keys)) assert.equal(neighbour(rows, from, key, false), to, `${from} ${key}`);
  }
  assert.equal(neighbour(rows, "e", "Home", true), "a");
  assert.equal(neighbour(rows, "a", "End", true), "e");
  assert.equal(neighbour(rows, "a", "Enter", false), null);
});

// --- the summary ----------------------------------------------------------------------------------

test("scores and pairs are found by name, whatever the names", () => {
  const summary = {
    scores: { keys: ["model", "metric", "value"], rows: [["__proto__", "a", 1], ["b", "constructor", 2]] },
    comparisons: { keys: ["metric", "baseline", "model", "verdict"], rows: [["a", "b", "__proto__", "tie"]] },
  };
  assert.deepEqual(recordsOf(summary.scores)[1], { model: "b", metric: "constructor", value: 2 });
  const index = indexScores(summary);
  assert.equal(index.score("__proto__", "a").value, 1);
  assert.equal(index.score("b", "a"), undefined);
  assert.equal(index.pair("__proto__", "b", "a").verdict, "tie");
});

test("win rates of groups, against a count by hand", () => {
  const { rowsOfGroups, winsOver } = load(
    ["rating_plan.js", "linked.js", "state.js", "examples_where.js", "examples_query.js", "slice_wins.js"],
    ["rowsOfGroups", "winsOver"],
  );
  const scores = { one: [1, 2, 3, 4, NaN, 6], two: [2, 2, 1, 5, 5, 9] };
  const metrics = [{ name: "m", higher_is_better: true }, { name: "loss", higher_is_better: false }];
  const answers = {
    count: 6, columns: ["level"], lengths: [1, 2, 3, 4, 5, 6], metrics,
    column: () => ["x", "x", "y", null, "x", "x"], values: (_, model) => scores[model],
  };
  const groups = rowsOfGroups(answers, "level", ["x", "y"]);
  assert.deepEqual(groups.get("x"), [0, 1, 4, 5]);
  const found = winsOver(answers, groups.get("x"), { metric: "m", model: "two", baseline: "one" });
  // Of 1 against 2, 2 against 2 and 6 against 9; the fifth has one score only.
  assert.deepEqual([found.wins, found.ties, found.losses, found.n], [2, 1, 0, 3]);
  assert.equal(found.value, 2.5 / 3);
  assert.ok(found.low < found.value && found.value < found.high && found.high <= 1);
  assert.equal(winsOver(answers, groups.get("x"), { metric: "loss", model: "two", baseline: "one" }).value, 0.5 / 3);
  assert.equal(winsOver(answers, [4], { metric: "m", model: "two", baseline: "one" }), null);
  assert.deepEqual(rowsOfGroups(answers, "length", ["1 low: 2–3"]).get("1 low: 2–3"), [1, 2]);
  assert.equal(rowsOfGroups(answers, "length", ["?"]).get("?"), null);
});

test("labels of the radar end where the picture does", () => {
  const { fitted } = load(["rubric.js"], ["fitted"]);
  assert.equal(fitted("accuracy", 60), "accuracy");
  assert.equal(fitted("factual correctness", 60), "factual c…");
  assert.equal(fitted("所有内容是否都有出处", 60), "所有内容…");
  assert.equal(fitted("x", 2), "x…");
});
