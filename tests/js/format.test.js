"use strict";

const test = require("node:test");
const assert = require("node:assert/strict");
const { load } = require("./load.js");

const { t, known, compact, fixed, pValue, ticks, tickLabels, decimalsFor } = load(
  ["format.js"],
  ["t", "known", "compact", "fixed", "pValue", "ticks", "tickLabels", "decimalsFor"],
  'STRINGS = { "a.b": "{x} of {y}", "plain": "word" };',
);

test("values are put in once", () => {
  assert.equal(t("a.b", { x: "{y}", y: 2 }), "{y} of 2");
  assert.throws(() => t("a.b", { x: 1 }), /no value 'y'/);
  assert.throws(() => t("a.c"), /no string/);
});

test("a word that is not there has a stand-in", () => {
  assert.equal(known("plain", "x"), "word");
  assert.equal(known("constructor", "x"), "x");
});

test("short numbers", () => {
  assert.equal(compact(0), "0");
  assert.equal(compact(12345), "12.3k");
  assert.equal(compact(2_500_000), "2.5M");
  assert.equal(compact(0.00012), "1.2e−4");
  assert.equal(compact(-3.14159), "−3.14");
  assert.equal(compact(Number.NaN), "–");
  assert.equal(fixed(-0.0001, 2), "0.00");
  assert.equal(pValue(0.0004), "< 0.001");
  assert.equal(pValue(0.0421), "0.042");
  assert.equal(decimalsFor([100, 2]), 0);
  assert.equal(decimalsFor([0.05]), 3);
});

test("an axis has round steps within its ends", () => {
  for (const [low, high] of [[0, 1], [-3.2, 8.9], [1e-6, 7e-6], [0, 123456]]) {
    const found = ticks(low, high, 5);
    assert.ok(found.length >= 3 && found.length <= 12, `${found}`);
    assert.ok(found[0] >= low - 1e-9 && found.at(-1) <= high + 1e-9);
    const step = found[1] - found[0];
    for (let i = 1; i < found.length; i += 1) {
      assert.ok(Math.abs(found[i] - found[i - 1] - step) < step * 1e-6);
    }
    assert.equal(new Set(tickLabels(found)).size, found.length);
  }
});
