// Parts of the page that are far from the window wait outside the document, which stays small
// however much the page tells. What follows the first child of a part (its heading, its summary)
// lies in an inert <template> until it comes near; the part keeps its height meanwhile. On paper,
// for the browser's own search and for copying or saving everything, the document is whole.

const PARTS = "main > section:not(#answers, #rating) :is(.block, .card, details, .paper-only)";
const REACHED = "a[href], button, input, select, textarea, summary, [tabindex='0']";
// With Ctrl or Command: find, find again, all, save, print.
const WHOLE_KEYS = new Set(["f", "g", "a", "s", "p"]);
// How far from the window, in its heights, a part comes and goes.
const REACH = 0.35;

const late = { wholeFor: new Set(), observer: null, changes: null, seen: new WeakSet(), queued: false, lists: new Map() };

// Called whenever the content is new: from now on its parts come and go.
function startLate() {
  late.observer?.disconnect();
  late.changes?.disconnect();
  late.seen = new WeakSet();
  late.observer = new IntersectionObserver(comeAndGo, { rootMargin: `${100 * REACH}% 0px` });
  late.changes = new MutationObserver(lookAgainSoon);
  late.changes.observe(byId("main"), { childList: true, subtree: true });
  for (const box of late.lists.keys()) late.observer.observe(box);
  const parts = lookAgain();
  const reach = REACH * window.innerHeight;
  const near = (box) => box.bottom > -reach && box.top < window.innerHeight + reach;
  putAway(parts.filter((part) => shut(part) || !near(part.getBoundingClientRect())));
}

// Before the content is replaced.
function forgetLate() {
  waiting.clear();
}

// Once, before anything else reads the document: what a saved copy of the page had put away.
function unpackSaved() {
  for (let left = savedAway(); left.length; left = savedAway()) {
    for (const template of left) template.replaceWith(template.content);
  }
}

const savedAway = () => document.querySelectorAll("#page template.waiting");

// A list that draws its own rows, as long as its box is near; `enter` and `leave` do that.
function watchList(box, enter, leave) {
  for (const old of late.lists.keys()) if (!old.isConnected) late.lists.delete(old);
  late.lists.set(box, { enter, leave });
  late.observer?.observe(box);
}

// What shows nothing wherever the window is.
const shut = (part) => (part.localName === "details" ? !part.open : part.matches(".paper-only"));

function comeAndGo(entries) {
  const leaving = [];
  for (const { target, isIntersecting } of entries) {
    const list = late.lists.get(target);
    if (list) comeAndGoRows(target, list, isIntersecting);
    else if (isIntersecting && !shut(target)) bringBack(target);
    else leaving.push(target);
  }
  putAway(leaving);
}

function comeAndGoRows(box, { enter, leave }, near) {
  if (near) enter();
  else if (!late.wholeFor.size && !inUse(box)) leave();
}

// --- away and back ----------------------------------------------------------------------------------

function putAway(parts) {
  if (late.wholeFor.size) return;
  // All heights first: each change would have the next one laid out anew.
  const heights = parts.map((part) => part.getBoundingClientRect().height);
  parts.forEach((part, i) => {
    if (waiting.has(part) || !part.isConnected || inUse(part)) return;
    const rest = [...part.childNodes].slice(part.matches(".paper-only") ? 0 : firstRest(part));
    if (!rest.length) return;
    const template = el("template", { class: "waiting" });
    const scrolled = [...part.querySelectorAll(".scroll, .inner-scroll, pre")]
      .filter((box) => box.scrollLeft || box.scrollTop)
      .map((box) => [box, box.scrollLeft, box.scrollTop]);
    template.content.append(...rest);
    part.append(template);
    if (!shut(part)) part.style.setProperty("min-height", `${heights[i]}px`);
    waiting.set(part, { template, scrolled });
  });
}

const firstRest = (part) => [...part.childNodes].indexOf(part.firstElementChild) + 1;

function bringBack(part) {
  const away = waiting.get(part);
  if (!away) return;
  waiting.delete(part);
  part.style.removeProperty("min-height");
  // Somebody may have filled the part anew.
  if (away.template.parentNode === part) away.template.replaceWith(away.template.content);
  for (const [box, left, top] of away.scrolled) box.scrollTo({ left, top, behavior: "instant" });
  for (const inner of part.querySelectorAll(PARTS)) watchAnew(inner);
}

function inUse(part) {
  const selection = document.getSelection();
  const chosen = !selection.isCollapsed && selection.containsNode(part, true);
  return chosen || part.contains(document.activeElement);
}

// Bring a node into the document, with what stands in it, to scroll to it or focus it.
function bringIn(node) {
  bringBack(node);
  for (let part = partAround(node); part; part = partAround(node)) bringBack(part);
}

const partAround = (node) => [...waiting.keys()].find((part) => waiting.get(part).template.content.contains(node));

// --- new parts --------------------------------------------------------------------------------------

function lookAgainSoon() {
  if (late.queued) return;
  late.queued = true;
  requestAnimationFrame(() => {
    late.queued = false;
    lookAgain();
  });
}

// Watch parts that are new, or were filled anew while they waited.
function lookAgain() {
  for (const [part, { template }] of waiting) {
    if (template.parentNode === part) continue;
    bringBack(part);
    watchAnew(part);
  }
  const fresh = [...document.querySelectorAll(PARTS)].filter((part) => !late.seen.has(part));
  for (const part of fresh) {
    late.seen.add(part);
    late.observer.observe(part);
  }
  return fresh;
}

// The observer reports where the part is now.
function watchAnew(part) {
  late.observer.unobserve(part);
  late.observer.observe(part);
}

// --- the whole document -----------------------------------------------------------------------------

// `reason`: "paper", "key", "width"; as long as there is one the document stays whole.
function showWhole(reason) {
  late.wholeFor.add(reason);
  while (waiting.size) for (const part of [...waiting.keys()]) bringBack(part);
  for (const { enter } of late.lists.values()) enter();
}

function showNear(reason) {
  if (!late.wholeFor.delete(reason) || late.wholeFor.size) return;
  for (const part of document.querySelectorAll(PARTS)) if (late.seen.has(part)) watchAnew(part);
  for (const box of late.lists.keys()) watchAnew(box);
}

// Once.
function watchLate() {
  const paper = (on) => (on ? showWhole("paper") : showNear("paper"));
  window.addEventListener("beforeprint", () => paper(true));
  window.addEventListener("afterprint", () => paper(false));
  window.matchMedia("print").addEventListener("change", ({ matches }) => paper(matches));
  document.addEventListener("keydown", lateKey, { capture: true });
  document.addEventListener("pointerdown", () => showNear("key"), { capture: true });
  document.addEventListener("click", (event) => {
    const summary = event.target.closest?.("summary");
    if (summary) bringBack(summary.parentElement);
  }, { capture: true });
  document.addEventListener("toggle", ({ target }) => {
    if (!late.seen.has(target)) return;
    if (target.open) bringBack(target);
    else putAway([target]);
  }, { capture: true });
  watchWidth();
}

function lateKey(event) {
  const control = event.ctrlKey || event.metaKey;
  if (event.key === "F3" || (control && WHOLE_KEYS.has(event.key.toLowerCase()))) showWhole("key");
  else if (!control && !["Shift", "Alt", "Control", "Meta"].includes(event.key)) showNear("key");
  if (event.key === "Tab") bringNext(event.shiftKey);
}

// At another width the parts have other heights: they are laid out once, and put away again.
function watchWidth() {
  let width = window.innerWidth;
  window.addEventListener("resize", debounce(150, () => {
    if (window.innerWidth === width) return;
    width = window.innerWidth;
    showWhole("width");
    showNear("width");
  }));
}

// --- the keyboard -----------------------------------------------------------------------------------

// What the Tab key would reach next comes in before it is pressed through.
function bringNext(backwards) {
  const from = document.activeElement;
  const way = backwards ? Node.DOCUMENT_POSITION_PRECEDING : Node.DOCUMENT_POSITION_FOLLOWING;
  const beyond = (node) => from === document.body || Boolean(from.compareDocumentPosition(node) & way);
  const nearest = (nodes) => (backwards ? nodes.at(-1) : nodes[0]);
  for (let round = 0; round < 20; round += 1) {
    const next = nearest([...document.querySelectorAll(REACHED)].filter((node) => beyond(node) && node.checkVisibility()));
    const away = nearest([...document.querySelectorAll("main template.waiting")].filter((node) => beyond(node) && holdsReached(node)));
    const between = away && (!next || Boolean(away.compareDocumentPosition(next) & way));
    if (!between) return;
    bringBack(away.parentElement);
  }
}

const holdsReached = (template) =>
  !shut(template.parentElement) && template.content.querySelector(`${REACHED}, template.waiting`) !== null;
