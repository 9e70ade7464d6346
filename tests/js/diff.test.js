"use strict";

const test = require("node:test");
const assert = require("node:assert/strict");
const { load } = require("./load.js");

const { textDiff, diffTokens, commonTokens } = load(["diff.js"], ["textDiff", "diffTokens", "commonTokens"]);

const shown = (parts) => parts.map(({ kind, text }) => ({ same: "", del: "-", ins: "+" })[kind] + text);
const side = (parts, kind) => parts.filter((part) => part.kind === "same" || part.kind === kind).map((part) => part.text).join("");

test("words in scripts with spaces, characters in scripts without", () => {
  assert.deepEqual(diffTokens("Don't stop, 2 cats_x."), ["Don't", " ", "stop", ",", " ", "2", " ", "cats_x", "."]);
  assert.deepEqual(diffTokens("GPT是模型。"), ["GPT", "是", "模", "型", "。"]);
  assert.deepEqual(diffTokens("こんにちは"), ["こ", "ん", "に", "ち", "は"]);
  assert.deepEqual(diffTokens("안녕 하세요"), ["안녕", " ", "하세요"]);
  assert.deepEqual(diffTokens("😀é"), ["😀", "é"]);
});

test("what was changed is told by word", () => {
  assert.deepEqual(shown(textDiff("the red cat sat", "the blue cat sat down")), [
    "the ", "-red", "+blue", " cat sat", "+ down",
  ]);
  assert.deepEqual(shown(textDiff("答案是三个", "答案有四个")), ["答案", "-是三", "+有四", "个"]);
  assert.deepEqual(shown(textDiff("same", "same")), ["same"]);
  assert.deepEqual(shown(textDiff("", "new")), ["+new"]);
  assert.deepEqual(shown(textDiff("old", "")), ["-old"]);
  assert.deepEqual(textDiff("", ""), []);
});

test("a space between two changes joins them", () => {
  assert.deepEqual(shown(textDiff("say one two end", "say three four end")), ["say ", "-one two", "+three four", " end"]);
});

// An independent longest common subsequence: the table of all prefixes.
function lcsLength(a, b) {
  let row = new Array(b.length + 1).fill(0);
  for (const x of a) {
    const next = [0];
    for (let j = 1; j <= b.length; j += 1) next.push(x === b[j - 1] ? row[j - 1] + 1 : Math.max(row[j], next[j - 1]));
    row = next;
  }
  return row[b.length];
}

test("both texts can be read back, and as much as can be is kept", () => {
  let seed = 7;
  const random = (n) => {
    seed = (seed * 48271) % 2147483647;
    return seed % n;
  };
  const letters = ["a", "b", "c", "答", "案", " ", "\n", "."];
  for (let round = 0; round < 400; round += 1) {
    const make = () => Array.from({ length: random(30) }, () => letters[random(letters.length)]).join("");
    const [before, after] = [make(), make()];
    const parts = textDiff(before, after);
    assert.equal(side(parts, "del"), before);
    assert.equal(side(parts, "ins"), after);
    const [a, b] = [diffTokens(before), diffTokens(after)];
    const pairs = commonTokens(a, b);
    assert.equal(pairs.length, lcsLength(a, b));
    pairs.forEach(([i, j], n) => {
      assert.equal(a[i], b[j]);
      assert.ok(n === 0 || (i > pairs[n - 1][0] && j > pairs[n - 1][1]));
    });
  }
});

test("texts with too little in common are told whole, and at once", () => {
  const words = (letter) => Array.from({ length: 4000 }, (_, i) => `${letter}${i}`).join(" ");
  const parts = textDiff(words("a"), words("b"));
  assert.equal(side(parts, "del"), words("a"));
  assert.equal(side(parts, "ins"), words("b"));
  assert.equal(commonTokens(["a", "b"], ["c", "d"], 3), null);
});
