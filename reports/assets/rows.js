// Parts of the answer browser that hold no state: long texts, the table of one row.

const LONG_PROMPT = 900;
const LONG_ANSWER = 450;

// A metric that is only ever 0 or 1 on a row is a yes or a no.
function isBinary(metric) {
  const values = Object.values(metric.values).flat().filter(isNumber);
  return values.every((value) => value === 0 || value === 1);
}

function rowNumber(metric, value) {
  if (!isNumber(value)) return "–";
  if (metric.binary) return value ? `✓ ${t("answers.yes")}` : `✗ ${t("answers.no")}`;
  return metricNumber(metric, value) + unitOf(metric);
}

function scoreTable(models, metrics, row) {
  const head = el("tr", {}, el("td", {}), models.map((m) => el("th", { scope: "col", class: "num" }, el("bdi", {}, m.label))));
  const body = metrics.map((metric) =>
    el(
      "tr",
      {},
      el("th", { scope: "row" }, metric.label),
      models.map((model) => el("td", { class: "num" }, rowNumber(metric, metric.values[model.name][row]))),
    ),
  );
  const facts = ["tokens", "seconds", "finish_reason"].filter((name) =>
    models.some((model) => (model.facts[name]?.[row] ?? null) !== null),
  );
  const rest = facts.map((name) =>
    el(
      "tr",
      {},
      el("th", { scope: "row" }, t(`answers.fact_${name}`)),
      models.map((model) => {
        const value = model.facts[name]?.[row] ?? "–";
        return el("td", { class: "num" }, isNumber(value) ? compact(value) : value);
      }),
    ),
  );
  return el("table", {}, el("thead", {}, head), el("tbody", {}, body, rest));
}

// A text as it is; a long one is folded behind a button.
function longText(kind, text, pattern, limit) {
  const body = el("div", { class: kind, dir: "auto" }, highlighted(text, pattern));
  if (text.length <= limit) return body;
  body.classList.add("folded");
  const button = el("button", { type: "button", class: "link", "aria-expanded": "false" });
  const label = () => {
    const open = !body.classList.contains("folded");
    button.setAttribute("aria-expanded", String(open));
    button.textContent = open ? t("answers.collapse") : t("answers.expand", { count: whole(text.length) });
  };
  button.addEventListener("click", () => {
    body.classList.toggle("folded");
    label();
  });
  label();
  return el("div", {}, body, button);
}
