"use strict";

const test = require("node:test");
const assert = require("node:assert/strict");
const { load } = require("./load.js");

const { lineageIndex, rowNamed, madeFrom, generations, originOf } = load(
  ["lineage.js"],
  ["lineageIndex", "rowNamed", "madeFrom", "generations", "originOf"],
);

const row = (id, parents = [], more = {}) => ({ id, parents, file: "curate/train.jsonl", ...more });
const names = (steps) => steps.map((items) => items.map(({ name }) => name).sort());

test("generations go from the seeds to the row, each right of all that it was made from", () => {
  const rows = [
    row("now", ["task", "s1"]),
    row("r2", ["s1", "s2"], { aliases: ["task"] }),
    row("s1", [], { file: "seeds: en" }),
    row("s2", [], { file: "seeds: en" }),
    row("other", ["now"]),
  ];
  const index = lineageIndex(rows);
  assert.deepEqual(names(generations(index, rows[0])), [["s1", "s2"], ["task"], ["now"]]);
  assert.equal(generations(index, rows[0])[1][0].row.id, "r2");
  assert.deepEqual(names(generations(index, rows[2])), [["s1"]]);
  assert.deepEqual(madeFrom(index, rows[0]).map(({ id }) => id), ["other"]);
  assert.deepEqual(madeFrom(index, rows[1]).map(({ id }) => id), ["now"]);
});

test("what no file has is a name without a row", () => {
  const index = lineageIndex([row("a", ["gone"])]);
  const [[oldest], [self]] = generations(index, index.rows[0]);
  assert.deepEqual([oldest.name, oldest.row, self.name], ["gone", null, "a"]);
  assert.equal(originOf(null), "unknown");
});

test("circles end", () => {
  const index = lineageIndex([row("a", ["b", "a"]), row("b", ["a"])]);
  const steps = generations(index, index.rows[0]);
  assert.deepEqual(steps.flat().map(({ name }) => name).sort(), ["a", "b"]);
  assert.equal(steps.at(-1)[0].name, "a");
});

test("a name is first an id, and first of a row that was kept", () => {
  const rows = [row("x", [], { rule: "refusal" }), row("y", [], { aliases: ["x"] }), row("x")];
  const index = lineageIndex(rows);
  assert.equal(rowNamed(index, "x"), rows[2]);
  assert.equal(rowNamed(lineageIndex(rows.slice(0, 2)), "x"), rows[0]);
  assert.equal(rowNamed(index, "constructor"), null);
  assert.deepEqual(rows.map(originOf), ["reject", "row", "row"]);
});

test("a thousand generations and a thousand parents are shown in part", () => {
  const chain = Array.from({ length: 1000 }, (_, i) => row(String(i), i < 999 ? [String(i + 1)] : []));
  const index = lineageIndex(chain);
  assert.ok(generations(index, chain[0]).length <= 201);
  const wide = row("w", Array.from({ length: 1000 }, (_, i) => `p${i}`));
  assert.equal(generations(lineageIndex([wide]), wide)[0].length, 200);
});
