// The frame around the examples: how many there are, where the reader is, the heads of the
// columns, and the list itself, with its keys.

class ExampleFrame {
  constructor(page) {
    this.page = page;
    const step = (by) => () => page.go(page.at + by);
    const save = (kind) => el("button", { type: "button", class: "link small", "data-save": kind, on: { click: () => page.save(kind) } }, kind.toUpperCase());
    this.status = el("p", { class: "status", role: "status" });
    this.said = el("p", { class: "said-now", role: "status" });
    this.place = el("span", { class: "num quiet" });
    this.previous = el("button", { type: "button", "data-step": "previous", on: { click: step(-1) } }, `↑ ${t("examples.previous")}`);
    this.next = el("button", { type: "button", "data-step": "next", on: { click: step(1) } }, `↓ ${t("examples.next")}`);
    this.heads = el("div", { class: "example-heads", "aria-hidden": "true" });
    this.box = el("div", { class: "examples-box", role: "feed", tabindex: "0", "aria-label": t("section.answers") }, this.heads);
    this.empty = el("p", { class: "empty" }, t("answers.nothing"));
    this.node = el(
      "div",
      { class: "examples-frame" },
      el(
        "div",
        { class: "frame-bar" },
        this.status,
        this.said,
        el("span", { class: "frame-steps" }, this.previous, this.place, this.next),
        el("span", { class: "frame-saves" }, t("examples.save"), save("csv"), save("jsonl")),
      ),
      this.box,
      this.empty,
    );
    this.list = new VirtualList(this.box, { draw: (index) => exampleCard(page, index), drawn: () => this.drawn() });
    this.box.append(this.list.space);
    this.box.addEventListener("keydown", (event) => this.key(event));
    this.box.addEventListener("focusin", (event) => this.focused(event));
  }

  show() {
    const { page } = this;
    const { answers, rows } = page;
    this.say("");
    const left = answers.count - answers.withText;
    this.status.textContent =
      t("answers.count", { shown: whole(rows.length), total: whole(answers.count) }) +
      (left ? ` ${t("examples.left_out", { count: whole(left) })}` : "");
    this.box.style.setProperty("--models", page.shown.length);
    this.empty.hidden = rows.length > 0;
    this.box.hidden = !rows.length;
    this.drawHeads();
    this.list.show(rows.length, page.at);
    this.tellPlace();
  }

  // Each model with its mean of the chosen metric over the examples that are listed.
  drawHeads() {
    const { page } = this;
    const { ask, answers } = page;
    const metric = answers.metrics.find((one) => one.name === ask.metric);
    const side = (name) => (page.several && name === ask.a ? "A" : page.several && name === ask.b ? "B" : null);
    refill(
      this.heads,
      page.shown.map((name) => {
        const mean = metric ? meanOver(answers.values(metric.name, name), page.rows) : NaN;
        return el(
          "div",
          { class: "example-column" },
          el("span", {}, el("span", { class: `dot-label s${page.series(name)}` }), el("bdi", {}, page.label(name))),
          side(name) ? el("span", { class: "tag" }, side(name)) : null,
          Number.isNaN(mean) ? null : el("span", { class: "quiet num" }, `${metric.label} ${metricNumber(metric, mean)}${unitOf(metric)}`),
        );
      }),
    );
  }

  drawn() {
    this.box.style.setProperty("--view", `${this.box.clientWidth}px`);
  }

  tellPlace() {
    const { at, rows } = this.page;
    this.place.textContent = rows.length ? `${whole(at + 1)} / ${whole(rows.length)}` : "–";
    this.previous.disabled = at <= 0;
    this.next.disabled = at >= rows.length - 1;
  }

  say(text) {
    this.said.textContent = text;
  }

  // --- moving ---------------------------------------------------------------------------------------

  goTo(index) {
    this.list.redrawAll();
    this.list.jump(index);
    this.focusOn(index);
    this.tellPlace();
  }

  // The example at `index` has changed; its head stays where it was, and the focus within it.
  again(index) {
    const node = this.list.nodes.get(index);
    const inside = node?.contains(document.activeElement) ? document.activeElement.dataset.action : undefined;
    this.list.redrawAll();
    this.tellPlace();
    const fresh = this.list.nodes.get(index);
    if (fresh && fresh.getBoundingClientRect().top < this.list.topLine()) this.list.jump(index);
    const again = this.list.nodes.get(index);
    (again?.querySelector(inside ? `[data-action="${inside}"]` : null) ?? again)?.focus({ preventScroll: true });
  }

  focusOn(index) {
    for (const [other, node] of this.list.nodes) node.tabIndex = other === index ? 0 : -1;
    this.list.nodes.get(index)?.focus({ preventScroll: true });
  }

  focused(event) {
    const node = event.target.closest?.("article.example");
    if (!node) return;
    this.page.at = Number(node.dataset.index);
    for (const [other, one] of this.list.nodes) one.tabIndex = other === this.page.at ? 0 : -1;
    this.tellPlace();
  }

  key(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const { page } = this;
    const onControl = event.target.closest("button, summary, a, input, select");
    const actions = {
      j: () => page.go(page.at + 1),
      k: () => page.go(page.at - 1),
      PageDown: () => page.go(page.at + 1),
      PageUp: () => page.go(page.at - 1),
      Home: () => page.go(0),
      End: () => page.go(page.rows.length - 1),
      Enter: onControl ? null : () => page.toggle(page.at),
      o: () => page.toggle(page.at),
      Escape: page.open ? () => page.shut() : null,
      l: () => page.copyLink(page.rows[page.at]),
    };
    const action = Object.hasOwn(actions, event.key) ? actions[event.key] : null;
    if (!action || !page.rows.length) return;
    event.preventDefault();
    action();
  }
}

// Once: "/" anywhere leads to the search.
function startExampleKeys() {
  document.addEventListener("keydown", (event) => {
    if (event.key !== "/" || event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.target.closest?.("input, textarea, select") || !examplesNow.page) return;
    event.preventDefault();
    goTo("answers");
    examplesNow.page.controls.query.focus();
  });
}
