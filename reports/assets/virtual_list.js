// A scrolled list of rows of unequal height of which only those in view are nodes.
//
// Heights are guesses until a row was drawn; when one proves wrong, the row at the top of the
// view stays where it is.

// Sums over a list of numbers that change one at a time (Fenwick 1994, a binary indexed tree).
class Sums {
  constructor(values) {
    this.values = Float64Array.from(values);
    this.tree = new Float64Array(this.values.length + 1);
    this.values.forEach((value, i) => (this.tree[i + 1] += value));
    for (let i = 1; i < this.tree.length; i += 1) {
      const next = i + (i & -i);
      if (next < this.tree.length) this.tree[next] += this.tree[i];
    }
  }

  set(i, value) {
    const change = value - this.values[i];
    this.values[i] = value;
    for (let at = i + 1; at < this.tree.length; at += at & -at) this.tree[at] += change;
  }

  // The sum of the first `count` values.
  before(count) {
    let sum = 0;
    for (let at = count; at > 0; at -= at & -at) sum += this.tree[at];
    return sum;
  }

  // The place of the value in which the running sum passes `amount`.
  at(amount) {
    let place = 0;
    let left = amount;
    for (let step = 2 ** Math.floor(Math.log2(Math.max(1, this.values.length))); step >= 1; step /= 2) {
      if (place + step < this.tree.length && this.tree[place + step] <= left) {
        place += step;
        left -= this.tree[place];
      }
    }
    return Math.min(place, this.values.length - 1);
  }
}

const BEYOND = 240;
// Browsers draw no box that is higher than about 33 million pixels.
const HIGHEST = 24_000_000;

class VirtualList {
  // box: the node that scrolls; draw(index): the node of a row; drawn(): called after each change
  // of what is in view.
  constructor(box, { draw, drawn }) {
    this.box = box;
    this.draw = draw;
    this.drawn = drawn;
    this.nodes = new Map();
    this.guess = 320;
    this.seen = { height: 0, count: 0 };
    this.inner = el("div", { class: "virtual-rows" });
    this.space = el("div", { class: "virtual-space" }, this.inner);
    this.count = 0;
    this.heights = new Sums([]);
    let waiting = false;
    box.addEventListener(
      "scroll",
      () => {
        if (waiting) return;
        waiting = true;
        requestAnimationFrame(() => {
          waiting = false;
          this.update();
        });
      },
      { passive: true },
    );
    this.width = 0;
    this.watcher = new ResizeObserver(() => this.resized());
    this.watcher.observe(box);
    watchList(box, () => this.update(), () => this.keepOne());
  }

  // Show `count` rows, the first of them being `at` at the top.
  show(count, at = 0) {
    this.count = count;
    if (this.seen.count) this.guess = this.seen.height / this.seen.count;
    this.guess = Math.min(this.guess, HIGHEST / Math.max(1, count));
    this.heights = new Sums(new Float64Array(count).fill(this.guess));
    this.clear();
    this.jump(at);
  }

  clear() {
    this.nodes.clear();
    this.inner.replaceChildren();
  }

  // Far from the window one row is enough: a list for readers of screens has to have one.
  keepOne() {
    const { index: kept } = this.anchor();
    for (const [index, node] of this.nodes) {
      if (index === kept) continue;
      node.remove();
      this.nodes.delete(index);
    }
  }

  // Bring a row to the top of the view.
  jump(index) {
    this.setHeight();
    this.update({ index: Math.max(0, Math.min(index, this.count - 1)), inside: 0 });
  }

  // Draw one row again, whatever else is in view stays.
  redraw(index) {
    this.nodes.get(index)?.remove();
    this.nodes.delete(index);
    this.update();
  }

  redrawAll() {
    const anchor = this.anchor();
    this.clear();
    this.update(anchor);
  }

  // Rows have other heights at another width: what is in view is measured again, the rest guessed.
  resized() {
    if (this.box.clientWidth === this.width) {
      this.update();
      return;
    }
    const anchor = this.anchor();
    this.width = this.box.clientWidth;
    this.heights = new Sums(new Float64Array(this.count).fill(this.guess));
    this.setHeight();
    this.update(anchor);
  }

  // The first row in view, and by how much of it is above.
  anchor() {
    const index = this.count ? this.heights.at(this.box.scrollTop) : 0;
    return { index, inside: this.box.scrollTop - this.heights.before(index) };
  }

  update(anchor = this.anchor()) {
    if (!this.count) {
      this.clear();
      this.setHeight();
      this.drawn();
      return;
    }
    // A row that proves lower than guessed makes room for more; a few rounds settle it.
    for (let round = 0; round < 8; round += 1) {
      const top = this.topFor(anchor);
      const first = this.heights.at(Math.max(0, top - BEYOND));
      const last = this.heights.at(top + this.viewHeight() + BEYOND);
      const placed = this.place(first, last);
      const measured = this.measure();
      this.setHeight();
      this.inner.style.transform = `translateY(${this.heights.before(first)}px)`;
      const wanted = this.topFor(anchor);
      if (Math.abs(this.box.scrollTop - wanted) > 0.5) this.box.scrollTop = wanted;
      if (!placed && !measured) break;
    }
    this.drawn();
  }

  // What stands above the rows stays in view (a head that sticks). On paper the box is as high as
  // its rows, which must not draw more and more of them.
  viewHeight() {
    return Math.min(this.box.clientHeight - this.space.offsetTop, 2 * window.innerHeight);
  }

  // Where in the window the view of the rows begins.
  topLine() {
    return this.box.getBoundingClientRect().top + this.space.offsetTop;
  }

  topFor({ index, inside }) {
    const lowest = Math.max(0, this.heights.before(this.count) - this.viewHeight());
    return Math.min(lowest, this.heights.before(index) + inside);
  }

  // Rows first … last stand as nodes, in order; says whether any of them is new.
  place(first, last) {
    let changed = false;
    for (const [index, node] of this.nodes) {
      if (index >= first && index <= last) continue;
      if (node.contains(document.activeElement)) this.box.focus({ preventScroll: true });
      node.remove();
      this.nodes.delete(index);
    }
    let before = null;
    for (let index = last; index >= first; index -= 1) {
      let node = this.nodes.get(index);
      if (!node) {
        node = this.draw(index);
        this.nodes.set(index, node);
        this.inner.insertBefore(node, before);
        changed = true;
      }
      before = node;
    }
    return changed;
  }

  measure() {
    let changed = false;
    for (const [index, node] of this.nodes) {
      const height = node.getBoundingClientRect().height;
      if (Math.abs(height - this.heights.values[index]) < 0.5) continue;
      this.heights.set(index, height);
      this.seen.height += height;
      this.seen.count += 1;
      changed = true;
    }
    return changed;
  }

  setHeight() {
    this.space.style.setProperty("height", `${this.heights.before(this.count)}px`);
  }
}
