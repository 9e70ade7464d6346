// What narrows the examples, each as a chip that can be removed.

function exampleChips(page) {
  const { ask } = page;
  const chips = [];
  if (ask.mode !== "all") chips.push([page.modeLabel(ask.mode), () => page.change({ mode: "" })]);
  if (ask.least) chips.push([t("examples.at_least", { size: page.sizeWords(ask.least) }), () => page.change({ least: "" })]);
  if (get("q")) chips.push([`“${get("q")}”`, () => page.change({ q: "" })]);
  ask.where.forEach((one, i) => {
    chips.push([conditionWords(page, one), () => page.setWhere(ask.where.filter((_, j) => j !== i))]);
  });
  return chips.map(([text, remove], i) =>
    el(
      "li",
      { class: "chip" },
      el("bdi", {}, text),
      el(
        "button",
        {
          type: "button",
          "aria-label": t("examples.remove", { filter: text }),
          on: {
            click: () => {
              remove();
              // The next chip, or what is left, takes the focus of the one that is gone.
              const left = page.chips.querySelectorAll("button");
              (left[Math.min(i, left.length - 1)] ?? page.controls.query).focus();
            },
          },
        },
        "×",
      ),
    ),
  );
}

function conditionWords(page, one) {
  const label = (name) => page.label(name);
  const metric = page.answers.metrics.find((item) => item.name === one.metric);
  const colon = t("examples.colon");
  if (one.kind === "is") {
    return columnWords(one.column) + colon + one.values.map(valueWords).join(t("list.comma"));
  }
  if (one.kind === "length") return t("answers.length") + colon + boundWords(one, whole);
  if (one.kind === "score") return `${label(one.model)} · ${metric.label}${colon}${boundWords(one, (value) => rowNumberPlain(metric, value))}`;
  if (one.kind === "gap") {
    return `${label(one.b)} ${MINUS} ${label(one.a)} · ${metric.label}${colon}${boundWords(one, (value) => rowNumberPlain(metric, value))}`;
  }
  if (one.kind === "ended") return t("examples.ended", { model: label(one.model), value: one.value });
  if (one.kind === "verdict") return verdictWords(page, one);
  return t("examples.chosen_rows", { count: whole(one.ids.length) });
}

const columnWords = (column) => known(`examples.column_${column}`, column);

const valueWords = (value) => (value === "" ? t("examples.none") : groupLabel(value));

const rowNumberPlain = (metric, value) => metricNumber(metric, value) + unitOf(metric);

function boundWords({ low, high }, shown) {
  if (low === null) return `< ${shown(high)}`;
  if (high === null) return `≥ ${shown(low)}`;
  return t("examples.from_to", { low: shown(low), high: shown(high) });
}
