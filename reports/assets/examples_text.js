// A text of a prompt or an answer as nodes: wrapped, raw, or its Markdown; what was searched for
// and what differs marked; a long one cut, around the first match.

const VIEWS = ["wrapped", "raw", "markdown"];
const FOLDED = { letters: 480, lines: 10, marks: 30, changes: 50 };
const UNFOLDED = { letters: 20_000, lines: Infinity, marks: 1000, changes: 2000 };
const WHOLE = { letters: Infinity, lines: Infinity, marks: 5000, changes: 20_000 };
// Characters that show nothing, or turn what stands beside them.
const UNSEEN = /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\u3164\ufe00-\ufe0f\ufeff\uffa0\ufff9-\ufffb]|\p{Cs}/gu;

// The part of the text that fits: [start, end] in code units, never within a character.
function cutText(text, pattern, limit) {
  const enough = (start) => {
    let end = Math.min(text.length, start + limit.letters);
    let at = start;
    for (let line = 0; line < limit.lines && at >= 0 && at < end; line += 1) {
      const next = text.indexOf("\n", at);
      if (next < 0 || next >= end) return end;
      at = next + 1;
    }
    if (Number.isFinite(limit.lines)) end = Math.min(end, Math.max(start, at - 1));
    return end;
  };
  const end = enough(0);
  if (end >= text.length) return [0, text.length];
  const match = pattern ? firstMatch(text, pattern) : -1;
  if (match < end) return [0, notWithin(text, end)];
  const start = notWithin(text, Math.max(0, match - 100));
  return [start, notWithin(text, Math.max(enough(start), Math.min(text.length, match + 60)))];
}

// A place between two code units of one character moves before it.
const notWithin = (text, place) => (/[\ud800-\udbff]/.test(text[place - 1] ?? "") ? place - 1 : place);

function firstMatch(text, pattern) {
  pattern.lastIndex = 0;
  return pattern.exec(text)?.index ?? -1;
}

// Parts of a text for the raw view: strings, and { code } for what can't be seen.
function seenParts(text) {
  const parts = [];
  let from = 0;
  for (const match of text.matchAll(UNSEEN)) {
    if (match.index > from) parts.push(text.slice(from, match.index));
    parts.push({ code: match[0].codePointAt(0).toString(16).toUpperCase().padStart(4, "0") });
    from = match.index + match[0].length;
  }
  if (from < text.length) parts.push(text.slice(from));
  return parts;
}

// The parts of a difference that stand within the first `letters`, at most `changes` of them.
function cutParts(parts, { letters, changes }) {
  const kept = [];
  let left = letters;
  for (const part of parts) {
    if (left <= 0 || kept.length >= changes) break;
    kept.push(part.text.length > left ? { ...part, text: part.text.slice(0, notWithin(part.text, left)) } : part);
    left -= part.text.length;
  }
  return kept;
}

// A text as a node. `look`: { view, pattern, limit, base } with `base` the text that it is shown
// as a change of, or null. `more(count)` makes what stands after a text that is cut.
function textNode(text, kind, look, more) {
  const { pattern, limit } = look;
  const leaf = (part) => highlighted(part, pattern, limit.marks);
  if (look.base !== null && look.base !== undefined && look.base !== text) {
    const parts = textDiff(look.base, text);
    const kept = cutParts(parts, limit);
    const whole = kept.length === parts.length && kept.at(-1)?.text === parts.at(-1)?.text;
    return textBox(kind, "wrapped", kept.map((part) => changeNode(part, leaf)), whole ? null : more(text.length));
  }
  const [start, end] = cutText(text, pattern, limit);
  const part = text.slice(start, end);
  const markdown = look.view === "markdown" && part.length <= MARKDOWN_LONGEST;
  const body = markdown
    ? markdownNodes(parseMarkdown(part), leaf)
    : look.view === "raw"
      ? seenParts(part).map((one) => (typeof one === "string" ? leaf(one) : el("span", { class: "unseen" }, `U+${one.code}`)))
      : leaf(part);
  const view = markdown ? "markdown" : look.view === "raw" ? "raw" : "wrapped";
  const cut = end < text.length || start > 0;
  return textBox(kind, view, [start > 0 ? "… " : null, body, end < text.length ? " …" : null], cut ? more(text.length) : null);
}

function changeNode({ kind, text }, leaf) {
  if (kind === "same") return leaf(text);
  return el(kind, {}, leaf(text));
}

function textBox(kind, view, nodes, after) {
  // What scrolls has to be reached by keyboard.
  const raw = view === "raw" ? { tabindex: "0", role: "group", "aria-label": t("examples.raw_text") } : {};
  const body = el("div", { class: `text view-${view} ${kind}`, dir: "auto", ...raw }, nodes);
  return after ? el("div", { class: "cut-text" }, body, after) : body;
}
