// What was taken out: rejects by rule, near duplicates beside their keepers, shared texts.

function startRejects(rules) {
  const root = byId("rejects-browser");
  if (!root) return null;
  const items = rules.flatMap((rule, place) => rule.examples.map((example) => ({ ...example, ...labels(rule), place })));
  const all = rules.reduce((sum, rule) => sum + rule.count, 0);
  const name = (rule) => `${ruleName(rule)} · ${stepName(rule)} (${whole(rule.count)})`;
  return new Browser(root, {
    name: "reject",
    label: t("dp.rejects"),
    pageRows: 10,
    items,
    fields: [
      {
        key: "rule",
        label: t("dp.rule"),
        choices: [["", t("dp.all_rules", { count: whole(all) })], ...rules.map((rule, place) => [String(place), name(rule)])],
        fits: (item, value) => String(item.place) === value,
      },
      valueField(items, "source", t("data.source")),
    ],
    texts: (item) => [item.text, item.evidence, item.id],
    counted: (shown, chosen) => {
      const rule = chosen.find(([one]) => one.key === "rule");
      return t("dp.rejects_shown", { shown: whole(shown), total: whole(rule ? rules[Number(rule[1])].count : all) });
    },
    card: (item, pattern) =>
      el(
        "article",
        { class: "entry" },
        el(
          "header",
          {},
          el("h3", {}, ruleName(item)),
          tag(stepName(item)),
          item.source ? tag(item.source) : null,
          el("code", { class: "entry-id" }, item.id),
        ),
        rowText(item.text, pattern),
        item.evidence
          ? el(
              "p",
              { class: "evidence" },
              el("span", { class: "quiet" }, `${t("data.evidence")} `),
              el("bdi", {}, highlighted(item.evidence, pattern)),
            )
          : null,
      ),
  });
}

const ruleName = ({ rule, rule_label: label }) => known(`rule.${rule}`, label);
const stepName = ({ step, step_label: label }) => known(`step.${step}`, label);
const labels = ({ rule, step, rule_label, step_label }) => ({ rule, step, rule_label, step_label });

function startDuplicates(clusters, pairs) {
  const root = byId("duplicates-browser");
  if (!root) return null;
  const largest = clusters.flatMap((cluster) => cluster.pairs.map((one) => ({ ...one, size: cluster.size })));
  const items = [
    ...largest.map((one) => ({ ...one, shown: "largest" })),
    ...pairs.map((one) => ({ ...one, shown: "sample" })),
  ];
  return new Browser(root, {
    name: "pair",
    label: t("dp.duplicates"),
    pageRows: 10,
    items,
    fields: [
      {
        key: "show",
        label: t("dp.show"),
        choices: [
          ["sample", t("dp.pairs_sample")],
          ["largest", t("dp.pairs_largest")],
          ["all", t("dp.any")],
        ],
        fits: (item, value) => value === "all" || item.shown === value,
      },
      valueField(items, "method", t("dp.method")),
    ],
    texts: (item) => [item.keeper.text, item.removed.text, item.keeper.id, item.removed.id],
    counted: (shown) => t("dp.pairs_shown", { shown: whole(shown) }),
    card: pairCard,
  });
}

function pairCard(item) {
  const side = (one, label) =>
    el(
      "div",
      { class: "entry-side" },
      el("h4", {}, label, " ", el("code", { class: "quiet" }, one.id)),
      spanned(one.text, one.spans),
    );
  return el(
    "article",
    { class: "entry" },
    el(
      "header",
      {},
      el("h3", {}, item.similarity === null ? "" : t("dp.similarity", { value: fixed(item.similarity, 3) })),
      tag(item.method),
      item.size ? tag(t("dp.cluster_of", { size: whole(item.size) })) : null,
    ),
    el("div", { class: "entry-sides" }, side(item.keeper, t("dp.kept")), side(item.removed, t("dp.removed"))),
  );
}

function startSharedTexts(rows) {
  const root = byId("contamination-browser");
  if (!root) return null;
  const items = rows.map((row) => ({ ...row, file: row.found[0]?.file ?? "", kind: row.found[0]?.kind ?? "" }));
  return new Browser(root, {
    name: "shared",
    label: t("dp.contamination"),
    pageRows: 10,
    items,
    fields: [
      valueField(items, "file", t("dp.evaluation")),
      named(valueField(items, "kind", t("dp.kind")), "dp.shared"),
      named(valueField(items, "action", t("dp.action")), "dp.action"),
    ],
    texts: (item) => [item.id, ...item.found.map((one) => one.text)],
    counted: (shown) => t("dp.shared_shown", { shown: whole(shown) }),
    card: (item) =>
      el(
        "article",
        { class: "entry" },
        el(
          "header",
          {},
          el("h3", {}, STRINGS[`dp.action.${item.action}`] ?? item.action),
          item.source ? tag(item.source) : null,
          el("code", { class: "entry-id" }, item.id),
        ),
        item.found.map(sharedText),
      ),
  });
}

// The field with names for the values that are known.
const named = (one, prefix) => ({
  ...one,
  choices: one.choices.map(([value, label]) => [value, STRINGS[`${prefix}.${value}`] ?? label]),
});

function sharedText(one) {
  const facts = [
    one.number === null ? one.file : t("dp.evaluation_row", { file: one.file, number: whole(one.number) }),
    STRINGS[`dp.shared.${one.kind}`] ?? one.kind,
    isNumber(one.tokens) ? t("dp.shared_words", { count: whole(one.tokens) }) : null,
    isNumber(one.jaccard) ? t("dp.similarity", { value: fixed(one.jaccard, 3) }) : null,
  ];
  return el(
    "div",
    { class: "shared-text" },
    el("p", { class: "quiet" }, el("bdi", {}, facts.filter(Boolean).join(" · "))),
    el("div", { class: "entry-text", dir: "auto" }, one.before, el("mark", {}, one.text), one.after),
  );
}
