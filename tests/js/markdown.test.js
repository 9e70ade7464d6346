"use strict";

const test = require("node:test");
const assert = require("node:assert/strict");
const { load } = require("./load.js");

const { parseMarkdown, inline, MARKDOWN_TAGS } = load(["markdown.js"], ["parseMarkdown", "inline", "MARKDOWN_TAGS"]);

// The tree as text that is easy to compare: tag(children).
const told = (node) =>
  typeof node === "string" ? JSON.stringify(node) : `${node.tag}${node.level ?? ""}(${node.children.map(told).join(" ")})`;
const parsed = (text) => parseMarkdown(text).map(told).join(" ");
const leaves = (nodes) => nodes.flatMap((node) => (typeof node === "string" ? [node] : leaves(node.children)));

test("blocks", () => {
  assert.equal(parsed("# One\n\ntext\nmore\n\n---\n> a\n> b"), 'h1("One") p("text\\nmore") hr() blockquote(p("a\\nb"))');
  assert.equal(parsed("## Two ##"), 'h2("Two")');
  assert.equal(parsed("#hash"), 'p("#hash")');
  assert.equal(parsed("```python\na = `1`\n\n# b\n```\nend"), 'pre("a = `1`\\n\\n# b") p("end")');
  assert.equal(parsed("~~~\nnever closed"), 'pre("never closed")');
});

test("lists, with lists in them", () => {
  assert.equal(parsed("- a\n- b"), 'ul(li("a") li("b"))');
  assert.equal(parsed("1. a\n   - x\n   - y\n2. b"), 'ol(li("a" ul(li("x") li("y"))) li("b"))');
  assert.equal(parsed("* a\n\n* b\n\nafter"), 'ul(li("a") li("b")) p("after")');
  assert.equal(parsed("1、甲\n2、乙"), 'ol(li("甲") li("乙"))');
  assert.equal(parsed("1. a\n\n   more\n2. b"), 'ol(li("a" p("more")) li("b"))');
  assert.equal(parseMarkdown("7. a\n8. b")[0].start, 7);
});

test("tables", () => {
  assert.equal(
    parsed("| a | b |\n|---|--:|\n| 1 | 2 |\n| 3 |"),
    'table(thead(tr(th("a") th("b"))) tbody(tr(td("1") td("2")) tr(td("3") td())))',
  );
  assert.equal(parseMarkdown("a|b\n-|-:\n1|2")[0].children[1].children[0].children[1].align, "right");
  assert.equal(parsed("a | b\nc | d"), 'p("a | b\\nc | d")');
});

test("inside a line", () => {
  assert.equal(inline("a **b** *c* `d*` ~~e~~").map(told).join(" "), '"a " strong("b") " " em("c") " " code("d*") " " del("e")');
  assert.equal(inline("**粗*斜*体**").map(told).join(" "), 'strong("粗" em("斜") "体")');
  assert.equal(inline("***x***").map(told).join(" "), 'strong(em("x"))');
  assert.equal(inline("snake_case_name and 2 * 3 * 4").map(told).join(" "), '"snake_case_name and 2 * 3 * 4"');
  assert.equal(inline("\\*not\\* ``a`b``").map(told).join(" "), '"*not* " code("a`b")');
  assert.equal(inline("**open").map(told).join(" "), '"**open"');
});

test("a link is text with its address as text", () => {
  const [node] = inline('[go](javascript:alert(1) "t")');
  assert.equal(node.tag, "link");
  assert.deepEqual(node.children, ["go"]);
  assert.equal(node.target, "javascript:alert(1");
  assert.equal(inline("![x](http://a/b.png)")[0].tag, "link");
});

test("no other tag can be had, and no HTML", () => {
  const html = "<script>alert(1)</script>\n\n<img src=x onerror=y>\n\n- <b>x</b>";
  const tags = (nodes) => nodes.flatMap((node) => (typeof node === "string" ? [] : [node.tag, ...tags(node.children)]));
  assert.ok(leaves(parseMarkdown(html)).join("").includes("<script>alert(1)</script>"));
  for (const tag of tags(parseMarkdown(html))) assert.ok(MARKDOWN_TAGS.has(tag), tag);
});

test("no letter is lost", () => {
  const marks = /[#>*_`~|\-\s\\[\]()!:+]|^\d+\./gm;
  for (const text of ["a [b](c d", "[[x](y)", "![", "***", "__a_b__ c_", "> - > deep\n>> more", "`", "``` x"]) {
    const kept = JSON.stringify(parseMarkdown(text)).replace(/"tag":"\w+"|"(children|target|language|level|start)"|null/g, "");
    for (const letter of text.replace(marks, "")) assert.ok(kept.includes(letter), `${text}: ${letter}`);
  }
});

test("hostile input ends", () => {
  const many = 50_000;
  for (const text of ["[", "*", "**a ", "`", "> ", "- ", "_a", "![](", "|", "#", "\\", "(", "~", "1. ", "  - x\n", "*a_b", "[a](b", "``a`"]) {
    assert.ok(Array.isArray(parseMarkdown(text.repeat(many / text.length))));
  }
});
