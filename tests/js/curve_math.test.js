"use strict";

const test = require("node:test");
const assert = require("node:assert/strict");
const { load } = require("./load.js");

const { smoothed, isJagged, nearest, axisOf, logTicks, path, bandPath } = load(
  ["format.js", "curve_math.js"],
  ["smoothed", "isJagged", "nearest", "axisOf", "logTicks", "path", "bandPath"],
);

const noise = (count, seed = 7) => {
  let state = seed;
  return Array.from({ length: count }, () => (state = (state * 16807) % 2147483647) / 2147483647);
};

test("a smoothed point is the mean of its window", () => {
  const values = noise(200);
  const means = smoothed(values, 0.1);
  means.forEach((mean, i) => {
    const reach = Math.min(10, i, 199 - i);
    const window = values.slice(i - reach, i + reach + 1);
    assert.ok(Math.abs(mean - window.reduce((a, b) => a + b, 0) / window.length) < 1e-9);
  });
});

test("what is smoothed without being asked for: long and jagged lines", () => {
  assert.ok(smoothed(noise(80)));
  assert.equal(smoothed(noise(59)), null);
  assert.equal(smoothed(Array.from({ length: 80 }, (_, i) => 1 / (i + 1))), null);
  assert.equal(smoothed(noise(80), 0), null);
  assert.ok(smoothed(noise(10), 0.05));
  assert.equal(smoothed([1, 2, 1], 0.2), null);
  assert.equal(isJagged([1, 2, 3, 4]), false);
});

test("the nearest step", () => {
  const steps = [1, 2, 4, 8, 16];
  for (let value = -3; value < 20; value += 0.25) {
    const gaps = steps.map((step) => Math.abs(step - value));
    assert.equal(gaps[nearest(steps, value)], Math.min(...gaps));
  }
  assert.equal(nearest([5], 9), 0);
});

test("a linear axis holds every value, and keeps a zero that is near", () => {
  const axis = axisOf([0.2, 3, 7], false);
  assert.equal(axis.low, 0);
  for (const value of [0.2, 3, 7]) assert.ok(axis.place(value) >= 0 && axis.place(value) <= 1);
  assert.ok(axisOf([100, 101], false).low > 90);
  assert.equal(axis.ticks.length, axis.labels.length);
});

test("a log axis is even in powers", () => {
  const axis = axisOf([0.001, 1, 1000, 0], true);
  assert.equal(axis.log, true);
  const steps = [0.001, 1, 1000].map(axis.place);
  assert.ok(Math.abs(steps[1] - steps[0] - (steps[2] - steps[1])) < 1e-12);
  assert.ok(steps[0] > 0 && steps[2] < 1);
  assert.equal(axis.place(0), null);
  assert.equal(axis.place(-1), null);
});

test("where a log axis can't be, it is linear", () => {
  assert.equal(axisOf([-1, 2, 3], true).log, false);
  assert.equal(axisOf([0, 0, 2], true).log, false);
  assert.equal(axisOf([2, 2], true).log, true);
});

test("marks of a log axis", () => {
  assert.deepEqual(logTicks(0.9, 1100), [1, 10, 100, 1000]);
  assert.deepEqual(logTicks(0.9, 60), [1, 2, 5, 10, 20, 50]);
  for (const [low, high] of [[1e-12, 1], [3, 3.4], [9.5e-7, 1.2e-6]]) {
    const found = logTicks(low, high);
    assert.ok(found.length > 1 && found.length < 12, `${low} ${high} ${found}`);
    assert.ok(found.every((value) => value >= low && value <= high));
  }
});

test("a path is broken where a value has no place", () => {
  const same = (value) => value;
  assert.equal(path([0, 1, 2], [5, 6, 7], same, same), "M0.0 5.0L1.0 6.0L2.0 7.0");
  assert.equal(path([0, 1, 2, 3], [5, null, 7, 8], same, same), "M0.0 5.0M2.0 7.0L3.0 8.0");
  assert.equal(bandPath([0, 1], [1, 2], [3, 4], same, same), "M0.0 3.0L1.0 4.0L1.0 2.0L0.0 1.0Z");
  assert.equal(bandPath([0, 1], [1, null], [3, 4], same, same), "");
});
