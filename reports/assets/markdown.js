// Markdown as nodes: what models write of it, and nothing that could act. No HTML, no link that
// can be followed, no picture: an address is shown as text. Hostile input costs linear time.

const MARKDOWN_DEPTH = 6;
const MARKDOWN_LONGEST = 60_000;

// The tree of a text: blocks { tag, children, … }, strings as leaves.
function parseMarkdown(text) {
  return blocksOf(text.replace(/\r\n?/g, "\n").split("\n"), 0);
}

// --- blocks -------------------------------------------------------------------------------------

const FENCE = /^ {0,3}(`{3,}|~{3,})[ \t]*([^\s`]{0,40})/;
const HEADING = /^ {0,3}(#{1,6})(?:[ \t]+|$)/;
const RULE = /^ {0,3}([-*_])(?:[ \t]*\1){2,}[ \t]*$/;
const QUOTE = /^ {0,3}> ?/;
const ITEM = /^( {0,12})([-*+]|\d{1,9}[.)、])(?:([ \t]{1,4})|(?=$)|(?<=、))/;
const blank = (line) => /^\s*$/.test(line);

function blocksOf(lines, depth) {
  const blocks = [];
  for (let i = 0; i < lines.length; ) {
    if (blank(lines[i])) {
      i += 1;
      continue;
    }
    const [block, next] = (depth < MARKDOWN_DEPTH && blockAt(lines, i, depth)) || paragraphAt(lines, i, depth);
    blocks.push(block);
    i = next;
  }
  return blocks;
}

// The block that starts at line `i`, and the line after it; null for a paragraph.
function blockAt(lines, i, depth) {
  const line = lines[i];
  const fence = FENCE.exec(line);
  if (fence) return fenceAt(lines, i, fence);
  const heading = HEADING.exec(line);
  if (heading) {
    const words = withoutEnd(line.slice(heading[0].length).trimEnd(), "#").trimEnd();
    return [{ tag: "h", level: heading[1].length, children: inline(words) }, i + 1];
  }
  if (RULE.test(line)) return [{ tag: "hr", children: [] }, i + 1];
  if (QUOTE.test(line)) {
    const inner = takeWhile(lines, i, (one) => QUOTE.test(one)).map((one) => one.replace(QUOTE, ""));
    return [{ tag: "blockquote", children: blocksOf(inner, depth + 1) }, i + inner.length];
  }
  if (ITEM.test(line)) return listAt(lines, i, depth);
  return tableAt(lines, i);
}

function fenceAt(lines, i, fence) {
  const ends = (line) => {
    const text = line.trim();
    return text.startsWith(fence[1]) && withoutEnd(text, fence[1][0]) === "";
  };
  const inner = takeWhile(lines, i + 1, (line) => !ends(line));
  return [{ tag: "pre", language: fence[2], children: [inner.join("\n")] }, i + 1 + inner.length + 1];
}

function listAt(lines, start, depth) {
  const first = ITEM.exec(lines[start]);
  const ordered = /\d/.test(first[2]);
  const items = [];
  let i = start;
  while (i < lines.length) {
    const mark = ITEM.exec(lines[i]);
    if (!mark || RULE.test(lines[i]) || mark[1].length > first[1].length + 1 || /\d/.test(mark[2]) !== ordered) break;
    const inside = mark[0].length;
    const inner = [lines[i].slice(inside)];
    for (i += 1; i < lines.length; i += 1) {
      const line = lines[i];
      const indent = line.length - line.trimStart().length;
      if (blank(line)) {
        // A blank line stays in the list only before more of it.
        const next = lines[i + 1];
        if (next === undefined || blank(next) || (!ITEM.test(next) && !/^ {2,}|^\t/.test(next))) break;
      } else if (ITEM.test(line) ? indent < Math.min(inside, first[1].length + 2) : indent < 1 && (blank(lines[i - 1]) || startsBlock(line))) {
        break;
      }
      inner.push(line.slice(Math.min(indent, inside)));
    }
    items.push({ tag: "li", children: tight(blocksOf(inner, depth + 1)) });
  }
  const from = ordered ? Number.parseInt(first[2], 10) : null;
  return [{ tag: ordered ? "ol" : "ul", start: from, children: items }, i];
}

// A first paragraph of an item needs no paragraph around it.
const tight = (blocks) => (blocks[0]?.tag === "p" ? [...blocks[0].children, ...blocks.slice(1)] : blocks);

const startsBlock = (line) => [FENCE, HEADING, RULE, QUOTE, ITEM].some((pattern) => pattern.test(line));

function tableAt(lines, i) {
  const head = cellsOf(lines[i]);
  const rule = lines[i + 1] === undefined ? null : cellsOf(lines[i + 1]);
  if (!head || !rule || rule.length !== head.length || !rule.every((cell) => /^:?-+:?$/.test(cell))) return null;
  const body = takeWhile(lines, i + 2, (line) => !blank(line) && line.includes("|"));
  const cells = (tag, texts) =>
    head.map((_, column) => ({ tag, align: alignOf(rule[column]), children: inline(texts[column] ?? "") }));
  const rows = body.map((line) => ({ tag: "tr", children: cells("td", cellsOf(line)) }));
  const top = { tag: "thead", children: [{ tag: "tr", children: cells("th", head) }] };
  return [{ tag: "table", children: [top, { tag: "tbody", children: rows }] }, i + 2 + body.length];
}

function cellsOf(line) {
  if (!line.includes("|")) return null;
  const cells = line.replaceAll("\\|", "\u0000").split("|").map((cell) => cell.replaceAll("\u0000", "|").trim());
  if (cells[0] === "") cells.shift();
  if (cells.at(-1) === "") cells.pop();
  return cells;
}

const alignOf = (rule) => (rule.endsWith(":") ? (rule.startsWith(":") ? "center" : "right") : null);

function paragraphAt(lines, i, depth) {
  const more = takeWhile(lines, i + 1, (line) => !blank(line) && !(depth < MARKDOWN_DEPTH && startsBlock(line)));
  return [{ tag: "p", children: inline([lines[i], ...more].join("\n")) }, i + 1 + more.length];
}

function takeWhile(lines, from, fits) {
  let end = from;
  while (end < lines.length && fits(lines[end])) end += 1;
  return lines.slice(from, end);
}

function withoutEnd(text, letter) {
  let end = text.length;
  while (end > 0 && text[end - 1] === letter) end -= 1;
  return text.slice(0, end);
}

// --- inside a line --------------------------------------------------------------------------------

const MARKERS = [["***", "strong"], ["**", "strong"], ["__", "strong"], ["~~", "del"], ["*", "em"], ["_", "em"]];
const PUNCTUATION = /[!-/:-@[-`{-~]/;

// Strings and { tag: "strong" | "em" | "del" | "code" | "link", children }.
function inline(text, depth = 0) {
  const found = [];
  let plain = "";
  // Where a closing mark was looked for in vain, there is none further on either.
  const closed = new Set();
  const seek = (mark, from) => {
    if (closed.has(mark)) return -1;
    const place = text.indexOf(mark, from);
    if (place < 0) closed.add(mark);
    return place;
  };
  const add = (node) => {
    if (plain) found.push(plain);
    plain = "";
    found.push(node);
  };
  for (let i = 0; i < text.length; ) {
    const piece = depth < MARKDOWN_DEPTH ? pieceAt(text, i, depth, seek) : null;
    if (piece) {
      if (typeof piece.node === "string") plain += piece.node;
      else add(piece.node);
      i = piece.next;
    } else {
      plain += text[i];
      i += 1;
    }
  }
  if (plain) found.push(plain);
  return found;
}

function pieceAt(text, i, depth, seek) {
  const letter = text[i];
  if (letter === "\\" && PUNCTUATION.test(text[i + 1] ?? "")) return { node: text[i + 1], next: i + 2 };
  if (letter === "`") return codeAt(text, i, seek);
  if (letter === "[" || (letter === "!" && text[i + 1] === "[")) return linkAt(text, i, depth, seek);
  if (!"*_~".includes(letter)) return null;
  for (const [mark, tag] of MARKERS) {
    if (!text.startsWith(mark, i)) continue;
    const start = i + mark.length;
    // snake_case is one word.
    const opens = /\S/.test(text[start] ?? " ") && !(letter === "_" && /[\p{L}\p{N}]/u.test(text[i - 1] ?? ""));
    const end = opens ? seek(mark, start + 1) : -1;
    if (end < 0 || /\s/.test(text[end - 1]) || (letter === "_" && /[\p{L}\p{N}]/u.test(text[end + mark.length] ?? ""))) continue;
    const inner = inline(text.slice(start, end), depth + 1);
    const children = mark === "***" ? [{ tag: "em", children: inner }] : inner;
    return { node: { tag, children }, next: end + mark.length };
  }
  // A run of marks that close nothing is text; looked at once, not once a mark.
  const run = /^[*_~]+/.exec(text.slice(i, i + 200))[0];
  return { node: run, next: i + run.length };
}

function codeAt(text, i, seek) {
  let ticks = 1;
  while (text[i + ticks] === "`" && ticks < 10) ticks += 1;
  const mark = "`".repeat(ticks);
  const end = seek(mark, i + ticks);
  if (end < 0) return { node: mark, next: i + ticks };
  return { node: { tag: "code", children: [text.slice(i + ticks, end)] }, next: end + ticks };
}

function linkAt(text, i, depth, seek) {
  const start = text[i] === "!" ? i + 2 : i + 1;
  const middle = seek("](", start);
  const end = middle < 0 ? -1 : seek(")", middle + 2);
  if (end < 0 || middle - start > 2000 || end - middle > 4000) return null;
  const label = text.slice(start, middle);
  if (label.includes("[")) return null;
  const target = text.slice(middle + 2, end).trim().split(/\s/, 1)[0];
  return { node: { tag: "link", target, children: inline(label, depth + 1) }, next: end + 1 };
}

// --- nodes ----------------------------------------------------------------------------------------

const MARKDOWN_TAGS = new Set(["p", "blockquote", "ul", "ol", "li", "table", "thead", "tbody", "tr", "th", "td", "strong", "em", "del"]);

// The tree as nodes; `leaf(text)` makes the nodes of a text (marks what was searched for).
function markdownNodes(tree, leaf) {
  return tree.map((node) => {
    if (typeof node === "string") return leaf(node);
    const inner = () => markdownNodes(node.children, leaf);
    if (node.tag === "h") return el("p", { class: `md-heading md-h${node.level}` }, inner());
    if (node.tag === "hr") return el("hr");
    if (node.tag === "pre") return el("pre", { class: "md-code" }, el("code", {}, inner()));
    if (node.tag === "code") return el("code", { class: "md-code" }, inner());
    if (node.tag === "link") {
      return el("span", { class: "md-link" }, inner(), " ", el("code", { class: "quiet" }, `(${node.target})`));
    }
    if (!MARKDOWN_TAGS.has(node.tag)) return null;
    return el(node.tag, { start: node.start > 1 ? node.start : null, class: node.align ? `md-${node.align}` : null }, inner());
  });
}
