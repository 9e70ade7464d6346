// From a number to the answers behind it: a bar, a cell, a bin or a sentence says what it is made
// of, and the examples show that: { mode, a, b, metric, sort, where }, as examples_query.js and
// examples_where.js read it.

// The condition that chooses a group of prompts; null where the examples know no such. `columns` are
// the fields that are in the page.
function groupCondition(by, group, columns) {
  if (columns.includes(by)) return { kind: "is", column: by, values: [group] };
  // A third of the lengths is named by the whole numbers in it: `2 middle: 8–9`.
  const ends = by === "length" && /^\d \w+: (\d+)–(\d+)$/.exec(group);
  return ends ? { kind: "length", low: Number(ends[1]), high: Number(ends[2]) + 1 } : null;
}

// A button without a frame around anything, which opens the examples; `wanted` null: plain text.
function linkedButton(wanted, attributes, ...children) {
  const { class: kind = "", ...rest } = attributes;
  if (!wanted) return el("span", { class: kind, ...rest }, ...children);
  return el(
    "button",
    { type: "button", class: `linked ${kind}`.trim(), ...rest, on: { click: () => openExamples(wanted) } },
    ...children,
  );
}

// Buttons that stand in the content already say as JSON what they open. Those that are nothing but
// a way there stay hidden where it leads to no answer.
function startLinked() {
  for (const button of document.querySelectorAll("main button[data-examples]")) {
    const asked = JSON.parse(button.dataset.examples);
    button.addEventListener("click", () => openExamples(asked));
    if (!button.matches(".more-answers")) {
      button.hidden = false;
      continue;
    }
    openAnswers().then(
      (answers) => {
        button.hidden = !answers || !anyRow(answers, asked);
      },
      () => {
        // What is wrong with the answers is said where they are shown.
      },
    );
  }
}
