"use strict";

const test = require("node:test");
const assert = require("node:assert/strict");
const { load } = require("./load.js");

const { shownChanges, sharedColumns, runOrder, usualTarget, readSort, moveCursor, xPlaces, shortened, howKey } = load(
  ["dom.js", "format.js", "curve_math.js", "runs_points.js", "runs_lines.js", "runs_changes.js", "runs_scores.js", "runs_sweep.js"],
  ["shownChanges", "sharedColumns", "runOrder", "usualTarget", "readSort", "moveCursor", "xPlaces", "shortened", "howKey"],
);

const changes = [
  { key: "seed", values: ["1", "2", "1", "2"], seed: true },
  { key: "train.ppo.clip", values: ["0.2", "0.2", "0.1", "0.1"], seed: false },
  { key: "train.sft.lora", values: [null, null, "{rank: 8}", "{rank: 8}"], seed: false },
];

test("options are found by key and by value, in any case; seeds only when asked for", () => {
  const keys = (found) => found.map((change) => change.key);
  assert.deepEqual(keys(shownChanges(changes, "", false)), ["train.ppo.clip", "train.sft.lora"]);
  assert.deepEqual(keys(shownChanges(changes, "", true)), ["seed", "train.ppo.clip", "train.sft.lora"]);
  assert.deepEqual(keys(shownChanges(changes, "PPO", true)), ["train.ppo.clip"]);
  assert.deepEqual(keys(shownChanges(changes, "rank: 8", true)), ["train.sft.lora"]);
  assert.deepEqual(keys(shownChanges(changes, "nothing", true)), []);
});

test("runs that agree share a column", () => {
  assert.deepEqual(sharedColumns(changes.slice(1), 4), [[0, 1], [2, 3]]);
  assert.deepEqual(sharedColumns(changes, 4), [[0], [1], [2], [3]]);
  assert.deepEqual(sharedColumns([], 3), [[0, 1, 2]]);
});

test("order by time: what is not finished comes last, equal times as named", () => {
  const runs = ["2026-03-01", "", "2026-01-01", "2026-03-01"].map((finished) => ({ finished }));
  assert.deepEqual(runOrder(runs, "named"), [0, 1, 2, 3]);
  assert.deepEqual(runOrder(runs, "time"), [2, 0, 3, 1]);
});

test("the usual quantity is the first tested score of the last model", () => {
  const target = (name, kind, model, tested) => ({ name, kind, model, metric: { tested } });
  const targets = [
    target("sft/em", "score", "sft", true),
    target("ppo/length", "score", "ppo", false),
    target("ppo/em", "score", "ppo", true),
    target("ppo/reward", "score", "ppo", true),
    target("ppo/kl", "training", "ppo", false),
  ];
  assert.equal(usualTarget(targets), "ppo/em");
  assert.equal(usualTarget(targets.slice(4)), "ppo/kl");
});

test("an order in the address that means nothing falls back", () => {
  assert.deepEqual(readSort("1-", 2), { column: "1", down: true });
  assert.deepEqual(readSort("score", 2), { column: "score", down: false });
  for (const text of ["", "7", "x", "-", "1--", "__proto__"]) assert.deepEqual(readSort(text, 2), { column: "score", down: false });
});

test("arrow keys go along a line, and to another one at the same step", () => {
  const lines = [{ x: [1, 2, 3] }, { x: [1, 3] }];
  const view = { line: 0, step: null };
  assert.equal(moveCursor(lines, view, "ArrowLeft"), true);
  assert.deepEqual(view, { line: 0, step: 3 - 0 });
  moveCursor(lines, view, "ArrowLeft");
  assert.equal(view.step, 2);
  moveCursor(lines, view, "ArrowDown");
  assert.equal(view.line, 1);
  assert.ok([1, 3].includes(view.step));
  moveCursor(lines, view, "PageUp");
  assert.equal(view.step, 3);
  moveCursor(lines, view, "ArrowDown");
  assert.equal(view.line, 0);
  assert.equal(moveCursor(lines, view, "x"), false);
});

test("numbers stand by size, by their logarithm where they span a factor of 20, words evenly", () => {
  const at = (values) => values.map((value) => ({ label: String(value), at: value }));
  const [a, b, c] = xPlaces(at([1, 2, 4]), 0, 800);
  assert.ok(Math.abs((c - b) / (b - a) - 2) < 1e-9);
  const [d, e, f] = xPlaces(at([0.001, 0.01, 0.1]), 0, 800);
  assert.ok(Math.abs(f - e - (e - d)) < 1e-9);
  const words = xPlaces([{ label: "x", at: null }, { label: "y", at: null }], 0, 800);
  assert.deepEqual(words, [200, 600]);
});

test("a long name keeps its beginning and its end", () => {
  assert.equal(shortened("short", 6), "short");
  const cut = shortened("learning-rate-1-seed-3", 9);
  assert.equal([...cut].length, 9);
  assert.ok(cut.startsWith("lear") && cut.endsWith("ed-3"));
});

test("one run on either side is no repeat", () => {
  assert.equal(howKey({ how: "welch", mean: { low: null } }), "runs.how_once");
  assert.equal(howKey({ how: "welch", mean: { low: 0.1 } }), "runs.how_welch");
  assert.equal(howKey({ how: "none", mean: null }), "runs.how_none");
});
