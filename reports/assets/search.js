// Searching and highlighting: a regular expression, or plain text where it is none.

// { pattern, plain, slow }: `plain` where the query is searched as plain text, `slow` where that is
// because the expression could keep the page busy for hours.
function compileSearch(query) {
  if (!query) return { pattern: null, plain: false, slow: false };
  // Without regard to case; what has none is found faster when that is not asked for.
  const flags = query.toLowerCase() === query.toUpperCase() ? "gu" : "giu";
  try {
    const pattern = new RegExp(query, flags);
    if (!explodes(query)) return { pattern, plain: false, slow: false };
  } catch {
    return { pattern: literally(query), plain: true, slow: false };
  }
  return { pattern: literally(query), plain: true, slow: true };
}

const literally = (query) => new RegExp(query.replace(/[\\^$.*+?()[\]{}|/-]/g, "\\$&"), "giu");

const EXPRESSION_PART = /\\.|\[(?:\\.|[^\]\\])*\]|\((?:\?(?:[:=!]|<[=!]|<[^>]*>))?|\)|[*+]\??|\{\d+,?\d*\}\??|\||[^]/gu;
const REPEATS = /^(?:[*+]|\{\d+,\}|\{\d+,\d+\})/;

// Whether a regular expression has a repeated group that itself repeats, as in (a+)+, or whose
// alternatives may begin alike, as in (.|\s)*: browsers try exponentially many ways to match those,
// and nothing can stop them.
function explodes(query) {
  const parts = query.match(EXPRESSION_PART) ?? [];
  const open = [];
  let closed = null;
  for (const part of parts) {
    const inside = open.at(-1);
    if (REPEATS.test(part)) {
      if (closed?.repeats || alike(closed?.starts)) return true;
      if (inside) inside.repeats = true;
      closed = null;
      continue;
    }
    closed = null;
    if (part.startsWith("(")) {
      if (inside?.fresh) inside.starts.push(".");
      if (inside) inside.fresh = false;
      open.push({ repeats: false, starts: [], fresh: true });
    } else if (part === ")") {
      closed = open.pop() ?? null;
      // What repeats within a group repeats within the groups around it too.
      if (closed?.repeats && open.length) open.at(-1).repeats = true;
    } else if (part === "|") {
      if (inside) inside.fresh = true;
    } else if (inside) {
      if (inside.fresh) inside.starts.push(part);
      inside.fresh = false;
    }
  }
  return false;
}

// Whether two alternatives may begin with the same letter; of classes nothing is known.
function alike(starts) {
  if (!starts || starts.length < 2) return false;
  const wide = (start) => start === "." || start.startsWith("[") || /^\\[wWsSdDpP]/.test(start);
  return starts.some(wide) || new Set(starts.map((start) => start.toLowerCase())).size < starts.length;
}

function found(pattern, text) {
  if (!text) return false;
  pattern.lastIndex = 0;
  return pattern.test(text);
}

// The text as nodes, matches (the first `most` of them) inside <mark>.
function highlighted(text, pattern, most = Infinity) {
  if (!pattern) return [text];
  const nodes = [];
  let from = 0;
  let count = 0;
  pattern.lastIndex = 0;
  for (const match of text.matchAll(pattern)) {
    if (count >= most) break;
    if (!match[0]) continue;
    count += 1;
    if (match.index > from) nodes.push(text.slice(from, match.index));
    nodes.push(el("mark", {}, match[0]));
    from = match.index + match[0].length;
  }
  if (from < text.length) nodes.push(text.slice(from));
  return nodes;
}
