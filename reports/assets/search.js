// Searching and highlighting: a regular expression, or plain text where it is none.

function compileSearch(query) {
  if (!query) return { pattern: null, plain: false };
  try {
    // Without regard to case; what has none is found faster when that is not asked for.
    return { pattern: new RegExp(query, query.toLowerCase() === query.toUpperCase() ? "gu" : "giu"), plain: false };
  } catch {
    const escaped = query.replace(/[\\^$.*+?()[\]{}|/-]/g, "\\$&");
    return { pattern: new RegExp(escaped, "giu"), plain: true };
  }
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
