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
//   answers.column(name)           one value a row, string or null: "category", "language", "source"
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

let openedAnswers = null;

function openAnswers() {
  openedAnswers ??= unpackAnswers();
  return openedAnswers;
}

async function unpackAnswers() {
  const packed = byId("packed-answers");
  if (!packed) return null;
  if (typeof DecompressionStream === "undefined") throw unpackError("unsupported");
  try {
    const data = await unpack(packed.textContent);
    packed.remove();
    return new Answers(data);
  } catch (cause) {
    throw unpackError("broken", cause);
  }
}

function unpackError(code, cause) {
  return Object.assign(new Error(`answers: ${code}`, { cause }), { code });
}

class Answers {
  #data;
  #texts;
  #values;
  #facts;
  #rows;

  constructor(data) {
    this.#data = data;
    this.count = data.rows.id.length;
    this.withText = this.count;
    this.models = data.models.map((model) => model.name);
    this.#texts = new Map(data.models.map((model) => [model.name, model.answers]));
    this.#facts = new Map(data.models.map((model) => [model.name, model.facts]));
    this.#values = new Map();
    this.metrics = data.metrics.map(({ values, ...metric }) => {
      const columns = new Map(Object.entries(values).map(([name, column]) => [name, numbers(column)]));
      this.#values.set(metric.name, columns);
      return { ...metric, binary: [...columns.values()].every(isYesNo) };
    });
    this.#rows = new Map(data.rows.id.map((id, row) => [id, row]));
  }

  hasText(row) {
    return row < this.withText;
  }

  id(row) {
    return this.#data.rows.id[row];
  }

  rowOf(id) {
    return this.#rows.get(id) ?? -1;
  }

  prompt(row) {
    return this.#data.rows.prompt[row];
  }

  reference(row) {
    return this.#data.rows.reference[row];
  }

  answer(model, row) {
    return this.#texts.get(model)?.[row] ?? null;
  }

  column(name) {
    return this.#data.rows[name] ?? new Array(this.count).fill(null);
  }

  values(metric, model) {
    return this.#values.get(metric)?.get(model) ?? null;
  }

  facts(name, model) {
    const column = this.#facts.get(model)?.[name];
    if (!column) return null;
    return name === "finish_reason" ? column : numbers(column);
  }

  marks() {
    return [];
  }

  verdicts() {
    return [];
  }
}

const numbers = (column) => Float64Array.from(column, (value) => value ?? NaN);

// A metric that is only ever 0 or 1 on a row is a yes or a no.
function isYesNo(column) {
  return column.every((value) => value === 0 || value === 1 || Number.isNaN(value));
}
