// Parts of lists of rows that hold no state: numbers of one row, long texts.

const LONG_PROMPT = 900;

function rowNumber(metric, value) {
  if (!isNumber(value)) return "–";
  if (metric.binary) return value ? `✓ ${t("answers.yes")}` : `✗ ${t("answers.no")}`;
  return metricNumber(metric, value) + unitOf(metric);
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
