// From a number to the answers behind it: a bar, a cell, a bin or a sentence names what it is
// made of, and the examples show that.
//
//   { a, b }              the two models that are compared, by name
//   { metric }            what they are judged by
//   { mode }              all, different, a, b, disagree or failures: which answers
//   { sort }              set, or gap: the largest difference first
//   { slice: { by, value } }              one group of prompts: language, category, length, source
//   { range: { metric, model, low, high, closed } }   scores of one model's answers from low to
//                         below high (`closed`: high itself too)
//
// Keys that are left out filter nothing; other filters that are set are taken off.

// Slices whose prompts the examples can be filtered by.
const OPEN_SLICES = ["language", "category", "length", "source"];

function openLinked(wanted) {
  openExamples(wanted);
}

// A button without a frame around anything, which opens the examples.
function linkedButton(wanted, attributes, ...children) {
  const { class: kind = "", ...rest } = attributes;
  return el(
    "button",
    { type: "button", class: `linked ${kind}`.trim(), ...rest, on: { click: () => openLinked(wanted) } },
    ...children,
  );
}

// Buttons that stand in the content already say as JSON what they open.
function startLinked() {
  for (const button of document.querySelectorAll("main button[data-examples]")) {
    button.hidden = false;
    button.addEventListener("click", () => openLinked(JSON.parse(button.dataset.examples)));
  }
}
