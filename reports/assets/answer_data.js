// The answers that lie packed in the page, and what the other files ask of them.
//
// `await openAnswers()` gives the one `Answers` of the page, or null where it holds none; it is
// unpacked once, however often it is asked for (a change of language asks again). It rejects
// with an Error of code "unsupported" (no DecompressionStream) or "broken" (damaged file).
//
//   answers.count                  rows; one row is one prompt, in the order of the set
//   answers.withText               rows whose texts are in the page (all, unless there are too many)
//   answers.hasText(row)           false: only id, columns, scores and facts of the row are here
//   answers.models                 names of the models, in the order of the summary
//   answers.id(row)                the prompt's id
//   answers.rowOf(id)              its row, or -1
//   answers.prompt(row)            string, or null where there is none
//   answers.reference(row)         string or null
//   answers.answer(model, row)     string, or null where the model gave none; model is a name
//   answers.columns                fields of the prompts: "language", "category", "source", and others
//   answers.column(name)           one value a row, string or null
//   answers.lengths                of the prompts, in words (characters of Chinese), a number a row
//   answers.metrics                [{name, label, format, higher_is_better, tested, binary}]
//   answers.values(metric, model)  Float64Array, a value a row, NaN where there is none; or null
//   answers.facts(name, model)     "tokens" or "seconds": as values; "finish_reason": string or
//                                  null a row; null where the model has no such fact
//   answers.marks(model, row)      what a judge said of the answer, as in judge_marks.jsonl:
//                                  [{rubric, reason, accuracy: 4, …}], [] where nothing
//   answers.verdicts(row)          what a judge said of pairs, as in judge_pairs.jsonl:
//                                  [{model, baseline, winner, model_first, baseline_first, replies}]
//
// Arrays and typed arrays are shared: read them, never write.

const COLUMNS = ["language", "category", "source"];
let openedAnswers = null;

function openAnswers() {
  openedAnswers ??= readAnswers();
  return openedAnswers;
}

async function readAnswers() {
  const packed = byId("packed-answers");
  if (!packed) return null;
  if (typeof DecompressionStream === "undefined") throw answersError("unsupported");
  try {
    const head = await unpack(packed.textContent);
    const texts = await readTexts(byId("packed-texts").textContent, head.blocks);
    packed.remove();
    byId("packed-texts").remove();
    return new Answers(head, texts);
  } catch (cause) {
    throw answersError("broken", cause);
  }
}

// The rows of all blocks; now and then the page may answer its reader.
async function readTexts(text, blocks) {
  const bytes = await unpackText(text, blocks.reduce((sum, size) => sum + size, 0));
  const decoder = new TextDecoder();
  const rows = [];
  let at = 0;
  let since = performance.now();
  for (const size of blocks) {
    for (const row of JSON.parse(decoder.decode(bytes.subarray(at, at + size)))) rows.push(row);
    at += size;
    if (performance.now() - since < 50) continue;
    await new Promise((resume) => setTimeout(resume));
    since = performance.now();
  }
  return rows;
}

function answersError(code, cause) {
  return Object.assign(new Error(`answers: ${code}`, { cause }), { code });
}

class Answers {
  #head;
  #texts;
  #places;
  #fields;
  #values;
  #facts;
  #rows;

  constructor(head, texts) {
    this.#head = head;
    this.#texts = texts;
    this.count = head.ids.length;
    this.withText = texts.length;
    this.lengths = head.lengths;
    this.columns = [...COLUMNS, ...Object.keys(head.labels).filter((name) => !COLUMNS.includes(name))];
    // Where the texts of a row stand; -1 where they are left out.
    this.#places = new Int32Array(this.count).fill(-1);
    for (let i = 0; i < texts.length; i += 1) this.#places[head.texts?.[i] ?? i] = i;
    this.models = head.models.map((model) => model.name);
    // A row of texts is prompt, reference, an answer a model, what a judge said.
    this.#fields = new Map(this.models.map((name, i) => [name, i + 2]));
    this.#values = new Map();
    this.metrics = head.metrics.map(({ values, ...metric }) => {
      const columns = values.map(numbersOf);
      this.#values.set(metric.name, new Map(this.models.map((name, i) => [name, columns[i]])));
      return { ...metric, binary: columns.every(onlyYesNo) };
    });
    this.#facts = new Map(head.models.map(({ name, facts }) => [name, factsOf(facts)]));
    this.#rows = new Map(head.ids.map((id, row) => [id, row]));
  }

  hasText(row) {
    return this.#places[row] >= 0;
  }

  id(row) {
    return this.#head.ids[row];
  }

  rowOf(id) {
    return this.#rows.get(id) ?? -1;
  }

  prompt(row) {
    return this.#text(row, 0);
  }

  reference(row) {
    return this.#text(row, 1);
  }

  answer(model, row) {
    return this.#text(row, this.#fields.get(model));
  }

  column(name) {
    const { labels } = this.#head;
    return Object.hasOwn(labels, name) ? labels[name] : new Array(this.count).fill(null);
  }

  values(metric, model) {
    return this.#values.get(metric)?.get(model) ?? null;
  }

  facts(name, model) {
    return this.#facts.get(model)?.get(name) ?? null;
  }

  marks(model, row) {
    return this.#notes(row).marks?.filter((note) => note.model === model) ?? [];
  }

  verdicts(row) {
    return this.#notes(row).verdicts ?? [];
  }

  #text(row, field) {
    return this.#texts[this.#places[row]]?.[field] ?? null;
  }

  #notes(row) {
    return this.#text(row, this.models.length + 2) ?? {};
  }
}

const numbersOf = (column) => Float64Array.from(column, (value) => value ?? NaN);

function factsOf(facts) {
  const read = ([name, column]) => [name, name === "finish_reason" ? column : numbersOf(column)];
  return new Map(Object.entries(facts).map(read));
}

// A metric that is only ever 0 or 1 on a row is a yes or a no.
function onlyYesNo(column) {
  return column.every((value) => value === 0 || value === 1 || Number.isNaN(value));
}
