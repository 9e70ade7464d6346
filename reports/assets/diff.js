// What one text has that another has not: by words, by characters in scripts without spaces.
// Pure functions.

const UNSPACED =
  "\\p{scx=Han}\\p{scx=Hiragana}\\p{scx=Katakana}\\p{scx=Bopomofo}" +
  "\\p{Script=Thai}\\p{Script=Lao}\\p{Script=Khmer}\\p{Script=Myanmar}";
const DIFF_TOKEN = new RegExp(
  `[${UNSPACED}]\\p{M}*|(?:(?![${UNSPACED}])[\\p{L}\\p{N}\\p{M}_]|(?<=\\p{L})['’](?=\\p{L}))+|\\r\\n|[^\\S\\r\\n]+|.`,
  "gsu",
);
// Beyond so many edits texts have too little in common to be worth showing it.
const DIFF_EDITS = 1500;

const diffTokens = (text) => text.match(DIFF_TOKEN) ?? [];

// From one text to another: [{ kind: "same" | "del" | "ins", text }], in order; "del" before "ins".
// What is "same" or "del" makes up `before`, what is "same" or "ins" makes up `after`.
function textDiff(before, after) {
  const a = diffTokens(before);
  const b = diffTokens(after);
  let head = 0;
  while (head < a.length && head < b.length && a[head] === b[head]) head += 1;
  let tail = 0;
  while (tail < Math.min(a.length, b.length) - head && a.at(-1 - tail) === b.at(-1 - tail)) tail += 1;
  const middle = [a.slice(head, a.length - tail), b.slice(head, b.length - tail)];
  const kept = commonTokens(...middle) ?? [];
  const parts = [["same", a.slice(0, head)]];
  let [x, y] = [0, 0];
  for (const [i, j] of [...kept, [middle[0].length, middle[1].length]]) {
    parts.push(["del", middle[0].slice(x, i)], ["ins", middle[1].slice(y, j)]);
    if (i < middle[0].length) parts.push(["same", [middle[0][i]]]);
    [x, y] = [i + 1, j + 1];
  }
  parts.push(["same", a.slice(a.length - tail)]);
  return joinedParts(parts);
}

// Neighbours of one kind as one; a space between two changes belongs to both.
function joinedParts(parts) {
  const filled = parts.filter(([, tokens]) => tokens.length);
  const found = [];
  let waiting = { del: "", ins: "" };
  const settle = () => {
    for (const kind of ["del", "ins"]) if (waiting[kind]) found.push({ kind, text: waiting[kind] });
    waiting = { del: "", ins: "" };
  };
  filled.forEach(([kind, tokens], i) => {
    const text = tokens.join("");
    if (kind !== "same") {
      waiting[kind] += text;
      return;
    }
    const between = waiting.del && waiting.ins && filled[i + 1] && filled[i + 1][0] !== "same";
    if (between && /^[^\S\r\n]+$/.test(text)) {
      waiting.del += text;
      waiting.ins += text;
      return;
    }
    settle();
    if (found.at(-1)?.kind === "same") found.at(-1).text += text;
    else found.push({ kind: "same", text });
  });
  settle();
  return found;
}

// The places [i, j] of a longest common subsequence, or null beyond `most` edits: the greedy
// algorithm of Myers 1986, "An O(ND) difference algorithm and its variations", section 3.
function commonTokens(a, b, most = DIFF_EDITS) {
  const furthest = new Int32Array(2 * most + 3);
  const at = (k) => k + most + 1;
  const trace = [];
  for (let d = 0; d <= most; d += 1) {
    trace.push(furthest.slice(at(-d - 1), at(d + 1) + 1));
    for (let k = -d; k <= d; k += 2) {
      const down = k === -d || (k !== d && furthest[at(k - 1)] < furthest[at(k + 1)]);
      let x = down ? furthest[at(k + 1)] : furthest[at(k - 1)] + 1;
      while (x < a.length && x - k < b.length && a[x] === b[x - k]) x += 1;
      furthest[at(k)] = x;
      if (x >= a.length && x - k >= b.length) return walkBack(trace, a.length, b.length);
    }
  }
  return null;
}

// `trace[d]` holds how far the diagonals -d-1 … d+1 reached with fewer than d edits.
function walkBack(trace, x, y) {
  const pairs = [];
  for (let d = trace.length - 1; d > 0; d -= 1) {
    const reached = (k) => trace[d][k + d + 1];
    const k = x - y;
    const down = k === -d || (k !== d && reached(k - 1) < reached(k + 1));
    const [fromX, fromK] = down ? [reached(k + 1), k + 1] : [reached(k - 1), k - 1];
    while (x > fromX && y > fromX - fromK) pairs.push([(x -= 1), (y -= 1)]);
    [x, y] = [fromX, fromX - fromK];
  }
  while (x > 0 && y > 0) pairs.push([(x -= 1), (y -= 1)]);
  return pairs.reverse();
}
