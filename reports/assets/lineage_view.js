// The story of one row: from its seeds to where it is now, and what was made from it.

const MOST_CHIPS = 8;

// `open(id)` shows another row in its place.
function lineagePanel(lineage, streams, row, open) {
  const steps = generations(lineage.index, row);
  const made = madeFrom(lineage.index, row);
  return el(
    "div",
    { class: "lineage-panel" },
    el("ol", { class: "story" }, storyOf(lineage, streams, row, steps, made).map((item) => el("li", {}, item))),
    steps.length > 1 ? generationColumns(steps, open) : null,
    made.length
      ? el("div", { class: "offspring" }, el("h4", {}, t("dp.made_from_it")), chipList(made.map((one) => ({ name: one.id, row: one })), open))
      : null,
  );
}

function storyOf(lineage, streams, row, steps, made) {
  const story = [...beginning(row, steps)];
  if (row.repaired?.length) story.push(t("dp.story_repaired", { what: row.repaired.join(t("list.comma")) }));
  if (row.nearest?.length) {
    const near = row.nearest.map(([name, value]) => `${name} (${fixed(value ?? 0, 2)})`).join(t("list.comma"));
    story.push(t("dp.story_nearest", { near }));
  }
  if (row.rule !== undefined) {
    story.push(t("dp.story_rejected", { step: stepName(labelled(row)), rule: ruleName(labelled(row)), evidence: row.evidence || "–" }));
    return story;
  }
  if (originOf(row) === "seed") return story;
  const passed = passedSteps(streams, row);
  if (passed.length) story.push(t("dp.story_passed", { steps: passed.join(" → ") }));
  const readers = (lineage.readers[row.file] ?? []).map((name) => known(`stage.${name}`, name));
  story.push(
    readers.length
      ? t("dp.story_read", { file: row.file, stages: readers.join(t("list.comma")) })
      : t("dp.story_now", { file: row.file }),
  );
  if (made.length) story.push(t("dp.story_made", { count: whole(made.length) }));
  return story;
}

// How it began: as a seed, as a row that was given, or made from others.
function beginning(row, steps) {
  const from = row.source ?? row.file;
  if (originOf(row) === "seed") return [t("dp.story_seed", { file: row.file.replace("seeds: ", "") })];
  const by = row.teacher ?? t("dp.no_teacher");
  const operator = row.round === undefined ? row.operator : `${row.operator}, ${t("dp.round", { round: row.round })}`;
  if (!row.parents.length) {
    const given = t("dp.story_given", { source: from });
    return row.teacher ? [given, t("dp.story_answered", { teacher: by, operator })] : [given];
  }
  const oldest = steps[0].filter((one) => originOf(one.row) === "seed").length;
  const found = oldest ? [t("dp.story_seeds", { seeds: whole(oldest), generations: whole(steps.length - 1) })] : [];
  found.push(
    row.operator
      ? t("dp.story_written", { parents: someOf(row.parents), teacher: by, operator })
      : t("dp.story_derived", { parents: someOf(row.parents) }),
  );
  return found;
}

// The first names of a list, and how many more there are.
function someOf(names, most = 4) {
  const shown = names.slice(0, most).join(t("list.comma"));
  return names.length > most ? t("dp.names_more", { names: shown, count: whole(names.length - most) }) : shown;
}

// The steps of the row's own stream, in their order.
function passedSteps(streams, row) {
  const name = { "curate/train.jsonl": "train", "curate/prompts.jsonl": "prompts", "curate/eval.jsonl": "holdout" }[row.file];
  const stream = streams.find((one) => one.stream === name);
  return (stream?.steps ?? []).filter(({ step }) => step !== "read").map(({ step, label }) => known(`step.${step}`, label));
}

const labelled = (row) => ({ step: row.step, step_label: prettyName(row.step), rule: row.rule, rule_label: prettyName(row.rule) });

function prettyName(name) {
  const text = name.replaceAll("_", " ");
  return text.slice(0, 1).toUpperCase() + text.slice(1);
}

// The generations side by side, the oldest first; pointing at one marks its parents and children.
function generationColumns(steps, open) {
  const last = steps.length - 1;
  const title = (age) => (age === 0 ? t("dp.generation_first") : age === last ? t("dp.generation_last") : t("dp.generation", { number: whole(age) }));
  const root = el(
    "div",
    { class: "generations", role: "group", "aria-label": t("dp.generations") },
    steps.map((items, age) =>
      el(
        "div",
        { class: "generation" },
        el("h4", {}, title(age), " ", el("span", { class: "quiet num" }, age === last ? "" : `(${whole(items.length)})`)),
        chipList(items, age === last ? null : open),
      ),
    ),
  );
  markKin(root);
  return root;
}

function chipList(items, open) {
  const chips = items.map((item) => el("li", {}, lineageChip(item, open)));
  const rest = chips.slice(MOST_CHIPS);
  return [
    el("ul", { class: "kin-list" }, chips.slice(0, MOST_CHIPS)),
    rest.length
      ? el("details", {}, el("summary", {}, t("dp.and_more", { count: whole(rest.length) })), el("ul", { class: "kin-list" }, rest))
      : null,
  ];
}

function lineageChip({ name, row }, open) {
  const kind = originOf(row);
  const names = row ? [row.id, ...(row.aliases ?? []), name] : [name];
  const about = { class: `kin ${kind}`, "data-names": JSON.stringify(names), "data-parents": JSON.stringify(row?.parents ?? []) };
  const inside = [
    el("span", { class: "kin-head" }, el("code", {}, el("bdi", {}, name)), el("span", { class: "kin-kind" }, t(`dp.origin_${kind}`))),
    el("span", { class: "kin-text", dir: "auto" }, row ? headOf(row) : t("dp.origin_unknown_text")),
  ];
  if (!row || !open) return el("div", about, inside);
  return el("button", { type: "button", ...about, on: { click: () => open(row) } }, inside);
}

const headOf = (row) => row.turns[0]?.text ?? "";

function markKin(root) {
  const chips = [...root.querySelectorAll(".kin")].map((node) => ({
    node,
    names: JSON.parse(node.dataset.names),
    parents: JSON.parse(node.dataset.parents),
  }));
  const related = (one, other) => one.parents.some((name) => other.names.includes(name));
  const mark = (one) => {
    for (const other of chips) {
      other.node.classList.toggle("near", one !== null && (other === one || related(one, other) || related(other, one)));
    }
    root.classList.toggle("pointing", one !== null);
  };
  for (const one of chips) {
    for (const type of ["pointerenter", "focus"]) one.node.addEventListener(type, () => mark(one));
    for (const type of ["pointerleave", "blur"]) one.node.addEventListener(type, () => mark(null));
  }
}
