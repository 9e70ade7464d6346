// English and Chinese. The content stands in the file once a language, all but one of them inert
// in a <template>; a switch puts the other one in place and starts the components on it.

const LANGUAGE_KEY = "espalier-language";
const spoken = { contents: new Map(), cores: new Map(), starts: 0 };

// Called once. `startPage(core)` starts every component on the content that stands now.
function startLanguages(startPage) {
  const first = document.documentElement.lang;
  const page = byId("page");
  const pristine = document.createDocumentFragment();
  pristine.append(...[...page.childNodes].map((node) => node.cloneNode(true)));
  spoken.contents.set(first, pristine);
  spoken.cores.set(first, JSON.parse(byId("core").textContent));
  for (const template of document.querySelectorAll("template[id^='content-']")) {
    spoken.contents.set(template.id.slice("content-".length), template.content);
  }
  return showLanguage(chosenLanguage(first), startPage);
}

// The address, what was chosen before, the author's choice, the browser; in this order.
function chosenLanguage(first) {
  const fixed = document.documentElement.hasAttribute("data-fixed-language");
  const browsers = fixed ? [] : navigator.languages.map((name) => name.split("-")[0]);
  return [get("ui"), remembered(LANGUAGE_KEY), ...browsers].find((name) => spoken.contents.has(name)) ?? first;
}

async function showLanguage(language, startPage) {
  const root = document.documentElement;
  delete root.dataset.ready;
  if (root.lang !== language) {
    forgetLate();
    byId("page").replaceChildren(spoken.contents.get(language).cloneNode(true));
    root.lang = language;
  }
  const core = coreIn(language);
  STRINGS = core.strings;
  if (core.title) document.title = core.title;
  const select = byId("language");
  select.value = language;
  select.addEventListener("change", () => switchLanguage(select.value, startPage));
  spoken.starts += 1;
  const turn = spoken.starts;
  await startPage(core);
  if (turn === spoken.starts) root.dataset.ready = "true";
}

async function switchLanguage(language, startPage) {
  set({ ui: language });
  remember(LANGUAGE_KEY, language);
  hideTip();
  const place = readingPlace();
  await showLanguage(language, startPage);
  byId("language").focus({ preventScroll: true });
  returnTo(place);
}

// The part that is being read, and where it stands in the window.
function readingPlace() {
  const parts = [...document.querySelectorAll("main [id]")].filter((node) => node.getClientRects().length);
  const node = parts.filter((part) => part.getBoundingClientRect().top < window.innerHeight / 2).at(-1);
  return node ? { id: node.id, top: node.getBoundingClientRect().top } : null;
}

function returnTo(place) {
  const node = place && byId(place.id);
  if (node) {
    bringIn(node);
    hold(node, () => {
      window.scrollBy({ top: node.getBoundingClientRect().top - place.top, behavior: "instant" });
    });
  }
}

function coreIn(language) {
  if (!spoken.cores.has(language)) {
    const [first] = spoken.cores.values();
    const { difference } = JSON.parse(byId(`core-${language}`).textContent);
    spoken.cores.set(language, changed(first, difference));
  }
  return spoken.cores.get(language);
}

// The value with a difference applied, as `difference` of shell.py writes it.
function changed(value, difference) {
  if (!difference) return value;
  if ("to" in difference) return difference.to;
  const copy = Array.isArray(value) ? [...value] : { ...value };
  for (const [key, inner] of Object.entries(difference.at)) {
    // Assigning would take a key `__proto__` for the prototype.
    const settled = { value: changed(value[key], inner), writable: true, enumerable: true, configurable: true };
    Object.defineProperty(copy, key, settled);
  }
  return copy;
}
