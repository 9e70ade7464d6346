// A list that can be filtered, searched and paged; what is chosen is kept in the address.

class Browser {
  // name: prefix of its keys in the address; items: plain data; fields: [{ key, label, choices,
  // fits(item, value) }]; texts(item): what the search looks at; card(item, pattern): a node;
  // counted(shown): the sentence above the list.
  constructor(root, options) {
    this.pageRows = 20;
    Object.assign(this, options);
    this.controls = el("form", {
      class: "browse-controls",
      role: "search",
      "aria-label": this.label,
      on: { submit: (e) => e.preventDefault() },
    });
    this.status = el("p", { class: "browse-status", role: "status" });
    this.list = el("div", { class: "entries" });
    this.pager = el("nav", { class: "browse-pager", "aria-label": this.label });
    refill(root, this.controls, this.status, this.list, this.pager);
    this.draw();
  }

  key(name) {
    return `${this.name}.${name}`;
  }

  choice(field) {
    const value = state.values.get(this.key(field.key));
    return field.choices.some(([name]) => name === value) ? value : field.choices[0][0];
  }

  change(values) {
    const keyed = Object.entries({ page: "", ...values }).map(([name, value]) => [this.key(name), value]);
    set(Object.fromEntries(keyed));
    this.update();
  }

  // Controls anew (a link chose something), then the list.
  draw() {
    const query = el("input", {
      type: "search",
      name: this.key("q"),
      placeholder: t("dp.search_hint"),
      spellcheck: "false",
      autocomplete: "off",
      on: { input: debounce(120, () => this.change({ q: query.value })) },
    });
    query.value = get(this.key("q"));
    this.hint = el("span", { class: "browse-hint", role: "status" });
    refill(
      this.controls,
      el("div", { class: "browse-search" }, el("label", { class: "field" }, el("span", {}, t("dp.search")), query), this.hint),
      this.fields
        .filter((item) => item.choices.length > 2)
        .map((item) => field(item.label, item.choices, this.choice(item), (value) => this.change({ [item.key]: value }), { name: this.key(item.key) })),
    );
    this.update();
  }

  update() {
    const { pattern, plain, slow } = compileSearch(get(this.key("q")));
    this.hint.textContent = plain ? t(slow ? "answers.slow_regex" : "dp.bad_regex") : "";
    const chosen = this.fields.map((item) => [item, this.choice(item)]).filter(([, value]) => value !== "");
    const kept = this.items.filter(
      (item) =>
        chosen.every(([one, value]) => one.fits(item, value)) &&
        (!pattern || this.texts(item).some((text) => found(pattern, text))),
    );
    const pages = Math.max(1, Math.ceil(kept.length / this.pageRows));
    const page = Math.min(pages, Math.max(1, Number.parseInt(get(this.key("page"), "1"), 10) || 1));
    const start = (page - 1) * this.pageRows;
    this.status.textContent = this.counted(kept.length, chosen);
    const shown = kept.slice(start, start + this.pageRows);
    refill(
      this.list,
      shown.length ? shown.map((item) => this.card(item, pattern)) : el("p", { class: "empty" }, t("dp.nothing")),
    );
    this.turnPages(page, pages, start, kept.length);
  }

  turnPages(page, pages, start, count) {
    this.pager.hidden = pages < 2;
    const turn = (to) => () => {
      set({ [this.key("page")]: String(to) });
      this.update();
      this.status.scrollIntoView({ block: "start" });
    };
    const at = {
      from: whole(start + 1),
      to: whole(Math.min(start + this.pageRows, count)),
      total: whole(count),
    };
    refill(
      this.pager,
      el("button", { type: "button", disabled: page === 1, on: { click: turn(page - 1) } }, `← ${t("dp.previous")}`),
      el("span", { class: "num" }, t("dp.page", at)),
      el("button", { type: "button", disabled: page === pages, on: { click: turn(page + 1) } }, `${t("dp.next")} →`),
    );
  }
}

// A field over the values that the items have; the first choice is all of them.
function valueField(items, key, label) {
  const values = [...new Set(items.map((item) => item[key]).filter((value) => value !== undefined && value !== ""))];
  return {
    key,
    label,
    choices: [["", t("dp.any")], ...values.sort().map((value) => [value, value])],
    fits: (item, value) => item[key] === value,
  };
}

const tag = (text, title) => el("span", { class: "tag", title }, el("bdi", {}, text));

const FOLD_FROM = 900;

// A text with what was searched for marked; a long one is folded behind a button.
function rowText(text, pattern) {
  const body = el("div", { class: "entry-text", dir: "auto" }, highlighted(text, pattern));
  if (text.length <= FOLD_FROM) return body;
  const button = el("button", { type: "button", class: "link" });
  const fold = (folded) => {
    body.classList.toggle("folded", folded);
    button.setAttribute("aria-expanded", String(!folded));
    button.textContent = folded ? t("dp.expand", { count: whole(text.length) }) : t("dp.collapse");
  };
  button.addEventListener("click", () => fold(!body.classList.contains("folded")));
  fold(true);
  return el("div", {}, body, button);
}

// A text with some places (start and end in code points) marked; no search in it.
function spanned(text, spans) {
  const letters = Array.from(text);
  const nodes = [];
  let from = 0;
  for (const [start, end] of spans) {
    nodes.push(letters.slice(from, start).join(""), el("mark", {}, letters.slice(start, end).join("")));
    from = end;
  }
  nodes.push(letters.slice(from).join(""));
  return el("div", { class: "entry-text", dir: "auto" }, nodes);
}
