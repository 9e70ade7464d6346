"use strict";

const assert = require("node:assert");
const test = require("node:test");
const zlib = require("node:zlib");
const { load } = require("./load.js");

const { undense, inflated, withMatches, unpack } = load(
  ["unpack.js"],
  ["undense", "inflated", "withMatches", "unpack"],
);

// Bytes as pairs of 91 characters, through one large number.
function dense(bytes) {
  const letters = [];
  for (let code = 33; code < 127; code += 1) if (!"<&\\".includes(String.fromCharCode(code))) letters.push(String.fromCharCode(code));
  const pairs = Math.ceil((bytes.length * 8) / 13);
  let number = 0n;
  for (const byte of bytes) number = (number << 8n) | BigInt(byte);
  number <<= BigInt(pairs * 13 - bytes.length * 8);
  let text = "";
  for (let i = 0; i < pairs; i += 1) {
    const pair = Number(number & 8191n);
    number >>= 13n;
    text = letters[Math.floor(pair / 91)] + letters[pair % 91] + text;
  }
  return text + (Math.floor((pairs * 13) / 8) > bytes.length ? "1" : "0");
}

test("bytes of every length come back", () => {
  for (let size = 0; size < 60; size += 1) {
    const bytes = Uint8Array.from({ length: size }, (_, i) => (i * 97 + size) & 255);
    assert.deepStrictEqual(undense(dense(bytes)), bytes);
  }
});

test("a JSON value", async () => {
  const value = { a: ["答案", null, 1.5, "</script>"] };
  assert.deepStrictEqual(await unpack(dense(zlib.deflateSync(JSON.stringify(value)))), value);
});

test("damaged data throws", async () => {
  assert.throws(() => undense(""));
  assert.throws(() => undense("!!!!"));
  const good = zlib.deflateSync("some text, long enough");
  const text = dense(good);
  await assert.rejects(unpack(text.slice(0, 9)));
  await assert.rejects(unpack(text.replace(/.{3}(?=.{9}$)/, "~~~")));
  await assert.rejects(inflated(good.subarray(0, -2)));
});

test("passages are put back from anywhere before", () => {
  const letters = (text) => [...text].map((letter) => letter.charCodeAt(0));
  const first = "abcdefghijklmnopqrstuvwxyz";
  // 26 literals, then 24 from distance 26, one literal, 25 from distance 50 (two bytes: 178, 3).
  const runs = [26, 1];
  const lengths = [0, 1];
  const distances = [26, 50];
  const head = [2, 0, 0, 0, 2, 0, 0, 0, 2, 0, 0, 0, 2, 0, 0, 0];
  const packed = Uint8Array.from([...head, ...runs, ...lengths, ...distances, ...letters(`${first}!end`)]);
  const expected = `${first}${first.slice(0, 24)}!${first.slice(1, 26)}end`;
  assert.strictEqual(Buffer.from(withMatches(packed, expected.length)).toString(), expected);
  assert.throws(() => withMatches(packed, expected.length + 1));
});
