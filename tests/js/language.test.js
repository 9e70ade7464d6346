"use strict";

const test = require("node:test");
const assert = require("node:assert/strict");
const { load } = require("./load.js");

const { changed } = load(["language.js"], ["changed"]);

test("a difference is applied where it says, and nowhere else", () => {
  const value = { strings: { a: "one", b: "two" }, curves: [{ label: "Loss", y: [1, 2] }, { label: "KL", y: [3] }] };
  const difference = { at: { strings: { at: { a: { to: "一" } } }, curves: { at: { 1: { at: { label: { to: "散度" } } } } } } };
  const told = changed(value, difference);
  assert.deepEqual(told, {
    strings: { a: "一", b: "two" },
    curves: [{ label: "Loss", y: [1, 2] }, { label: "散度", y: [3] }],
  });
  assert.ok(Array.isArray(told.curves));
  assert.equal(value.strings.a, "one");
  assert.equal(told.curves[0], value.curves[0]);
});

test("no difference is the value itself; a value can become null or another kind", () => {
  const value = { a: [1] };
  assert.equal(changed(value, null), value);
  assert.deepEqual(changed(value, { at: { a: { to: null } } }), { a: null });
  assert.deepEqual(changed([1, 2], { to: { x: 1 } }), { x: 1 });
});

test("a key __proto__ is a key", () => {
  const value = JSON.parse('{"__proto__": {"label": "x"}, "b": 1}');
  const told = changed(value, JSON.parse('{"at": {"__proto__": {"at": {"label": {"to": "y"}}}}}'));
  assert.equal(JSON.stringify(told), '{"__proto__":{"label":"y"},"b":1}');
  assert.equal({}.label, undefined);
});
