// The filtered examples as CSV or JSON lines, made of what the page holds. Pure but for the last two functions.

// A cell that begins so is run as a formula by spreadsheet programs.
const FORMULA = /^[=+\-@\t\r]/;

const csvCell = (value) => {
  if (value === null || value === undefined || Number.isNaN(value)) return "";
  if (typeof value === "number") return String(value);
  const text = FORMULA.test(value) ? `'${value}` : value;
  return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
};

// Fields of the prompts that only this set has.
const furtherColumns = (answers) => answers.columns.filter((name) => !COLUMNS.includes(name));

// One line a prompt; per model its answer, scores and facts. RFC 4180, in pieces.
function examplesCsv(answers, rows, models) {
  const columns = [
    ["id", (row) => answers.id(row)],
    ...["language", "category", "source"].map((name) => [name, (row) => answers.column(name)[row]]),
    ["prompt", (row) => answers.prompt(row)],
    ["reference", (row) => answers.reference(row)],
    ...furtherColumns(answers).map((name) => [`group: ${name}`, (row) => answers.column(name)[row]]),
    ...models.flatMap((model) => [
      [`${model}: answer`, (row) => answers.answer(model, row)],
      ...answers.metrics.map(({ name }) => [`${model}: ${name}`, (row) => answers.values(name, model)[row]]),
      ...["tokens", "seconds", "finish_reason"]
        .filter((name) => answers.facts(name, model))
        .map((name) => [`${model}: ${name}`, (row) => answers.facts(name, model)[row]]),
    ]),
  ];
  const lines = [columns.map(([name]) => csvCell(name)), ...rows.map((row) => columns.map(([, read]) => csvCell(read(row))))];
  return lines.map((line) => `${line.join(",")}\r\n`);
}

// One JSON object a line; what is not there is null or absent.
function examplesJsonl(answers, rows, models) {
  return rows.map((row) => `${JSON.stringify(exampleObject(answers, row, models))}\n`);
}

function exampleObject(answers, row, models) {
  const number = (value) => (value === undefined || Number.isNaN(value) ? null : value);
  const answer = (model) => ({
    model,
    answer: answers.answer(model, row),
    scores: Object.fromEntries(answers.metrics.map(({ name }) => [name, number(answers.values(name, model)[row])])),
    ...Object.fromEntries(
      ["tokens", "seconds", "finish_reason"]
        .filter((name) => answers.facts(name, model))
        .map((name) => [name, number(answers.facts(name, model)[row])]),
    ),
    judge: answers.marks(model, row).map(({ model: _, ...note }) => note),
  });
  return {
    id: answers.id(row),
    language: answers.column("language")[row],
    category: answers.column("category")[row],
    source: answers.column("source")[row],
    groups: Object.fromEntries(furtherColumns(answers).map((name) => [name, answers.column(name)[row]])),
    prompt: answers.prompt(row),
    reference: answers.reference(row),
    answers: models.map(answer),
    verdicts: answers.verdicts(row),
  };
}

// Offer pieces of text as a file. Spreadsheet programs take UTF-8 for something else without a mark.
function savePieces(name, type, pieces) {
  const start = type === "text/csv" ? ["\ufeff"] : [];
  const address = URL.createObjectURL(new Blob([...start, ...pieces], { type: `${type};charset=utf-8` }));
  const link = el("a", { href: address, download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(address), 60_000);
}

// Whether the text is on the clipboard now; files opened from disk may not use the newer way.
async function copyToClipboard(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    const area = el("textarea", { class: "visually-hidden", "aria-hidden": "true" });
    area.value = text;
    document.body.append(area);
    const before = document.activeElement;
    area.select();
    const done = document.execCommand("copy");
    area.remove();
    before?.focus({ preventScroll: true });
    return done;
  }
}
