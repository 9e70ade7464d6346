// One example: prompt, reference, the answers side by side with what is known of each.

// `page` is the `Examples` object; returns the node of the example at `index` of its rows.
function exampleCard(page, index) {
  const { answers } = page;
  const row = page.rows[index];
  const open = answers.id(row) === page.open;
  const limit = page.whole.has(row) ? WHOLE : open ? UNFOLDED : FOLDED;
  const look = { view: page.view, pattern: page.ask.pattern, limit, base: null };
  const more = (count) =>
    el(
      "button",
      { type: "button", class: "link more-text", on: { click: () => (open ? page.showWhole(index) : page.toggle(index)) } },
      t("answers.expand", { count: whole(count) }),
    );
  return el(
    "article",
    {
      class: open ? "example open" : "example",
      tabindex: index === page.at ? "0" : "-1",
      "aria-posinset": index + 1,
      "aria-setsize": page.rows.length,
      "aria-labelledby": `example-${row}`,
      "data-index": index,
      "data-id": answers.id(row),
    },
    el(
      "div",
      { class: "example-top" },
      exampleHead(page, index, row, open),
      answers.hasText(row) ? questionNodes(page, row, look, more) : el("p", { class: "text quiet" }, t("examples.text_left_out")),
    ),
    el(
      "div",
      { class: "example-answers" },
      page.shown.map((model) => answerCell(page, model, row, look, more, open)),
    ),
    open ? el("div", { class: "example-top" }, exampleDetails(page, row)) : null,
  );
}

function exampleHead(page, index, row, open) {
  const { answers } = page;
  const tags = [["language"], ["category"]].map(([name]) => answers.column(name)[row]).filter((value) => value !== null);
  return el(
    "header",
    {},
    el("h3", { id: `example-${row}` }, t("answers.row", { number: whole(row + 1) })),
    tags.map((value) => el("span", { class: "tag" }, el("bdi", {}, value))),
    gapMark(page, row),
    el("code", { class: "row-id" }, answers.id(row)),
    el(
      "span",
      { class: "example-actions" },
      smallButton(t("examples.copy_link"), () => page.copyLink(row), { "data-action": "link" }),
      smallButton(open ? t("examples.close") : t("examples.open"), () => page.toggle(index), {
        "data-action": "open",
        "aria-expanded": String(open),
      }),
    ),
  );
}

const smallButton = (label, action, attributes = {}) =>
  el("button", { type: "button", class: "link small", ...attributes, on: { click: action } }, label);

function questionNodes(page, row, look, more) {
  const reference = page.answers.reference(row);
  return [
    textNode(page.answers.prompt(row) ?? "", "prompt", look, more),
    reference === null
      ? null
      : el(
          "div",
          { class: "reference" },
          el("h4", {}, t("answers.reference")),
          textNode(reference, "", { ...look, base: null }, more),
        ),
  ];
}

// Which of the two compared models is better on the chosen metric, and by how much.
function gapMark(page, row) {
  const { metric, a, b } = page.ask;
  const about = page.answers.metrics.find((one) => one.name === metric);
  const gap = gapOf(page.answers, page.ask)(row);
  if (!gap || Number.isNaN(gap)) return null;
  const kind = gap > 0 ? "better" : "worse";
  const size = page.answers.values(metric, b)[row] - page.answers.values(metric, a)[row];
  return el(
    "span",
    { class: `mark ${kind}` },
    el("span", { "aria-hidden": "true" }, `${MARKS[kind]} `),
    t("answers.gap", { model: page.label(gap > 0 ? b : a), metric: about.label }),
    about.binary ? null : ` ${signedNumber(about, size)}`,
  );
}

// --- one answer -----------------------------------------------------------------------------------

function answerCell(page, model, row, look, more, open) {
  const text = page.answers.answer(model, row);
  const base = page.diffBase(row, model);
  return el(
    "section",
    { class: "answer", "data-model": model, "aria-label": page.label(model) },
    el(
      "h4",
      {},
      el("span", { class: `dot-label s${page.series(model)}`, "aria-hidden": "true" }),
      el("bdi", {}, page.label(model)),
    ),
    answerText(page, row, text, { ...look, base }, more),
    el(
      "p",
      { class: "answer-facts" },
      answerFacts(page, model, row),
      text
        ? smallButton(t("examples.copy"), () => page.copyText(text), {
            "data-action": "copy",
            "aria-label": t("examples.copy_answer", { model: page.label(model) }),
          })
        : null,
    ),
    open ? markNotes(page, model, row) : null,
  );
}

function answerText(page, row, text, look, more) {
  if (!page.answers.hasText(row)) return null;
  if (text === null) return el("p", { class: "text quiet" }, t("answers.no_answer"));
  if (!/\S/.test(text)) return el("p", { class: "text quiet" }, t("answers.empty"));
  return textNode(text, "", look, more);
}

const secondsWords = (seconds) =>
  seconds < 1 ? t("examples.milliseconds", { count: compact(1000 * seconds) }) : t("examples.seconds", { count: compact(seconds) });

function answerFacts(page, model, row) {
  const { answers } = page;
  const scores = page.factMetrics().map((metric) => {
    const value = answers.values(metric.name, model)[row];
    if (Number.isNaN(value)) return null;
    const chosen = metric.name === page.ask.metric;
    return el("span", { class: chosen ? "score chosen" : "score" }, `${metric.label} `, el("b", { class: "num" }, rowNumber(metric, value)));
  });
  const tokens = answers.facts("tokens", model)?.[row];
  const seconds = answers.facts("seconds", model)?.[row];
  const reason = answers.facts("finish_reason", model)?.[row] ?? null;
  const failed = failuresOf(answers, model, row, null).filter((why) => why === "refused");
  return [
    scores,
    isNumber(tokens) ? el("span", { class: "num" }, t("answers.tokens", { count: whole(tokens) })) : null,
    isNumber(seconds) ? el("span", { class: "num" }, secondsWords(seconds)) : null,
    reason === null || reason === "stop" ? null : el("span", { class: "cut" }, reason === "length" ? t("answers.cut_off") : el("bdi", {}, reason)),
    failed.map(() => el("span", { class: "cut" }, t("examples.refused"))),
  ];
}
