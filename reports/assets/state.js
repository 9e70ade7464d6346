// What the reader chose, kept in the address: #answers&mode=a&q=text.

const state = { at: "", values: new Map(), listeners: [] };

function readHash() {
  state.values.clear();
  state.at = "";
  for (const part of location.hash.slice(1).split("&")) {
    const [key, ...rest] = part.split("=");
    if (!rest.length) {
      if (part) state.at = part;
    } else {
      try {
        state.values.set(key, decodeURIComponent(rest.join("=")));
      } catch {
        // A broken escape in a hand-made address: as if it were not there.
      }
    }
  }
}

// Half of a character can't stand in an address.
const encoded = (value) => encodeURIComponent(String(value).replace(/\p{Surrogate}/gu, "\ufffd"));

function writeHash() {
  const parts = state.at ? [state.at] : [];
  for (const [key, value] of state.values) parts.push(`${key}=${encoded(value)}`);
  const hash = parts.length ? `#${parts.join("&")}` : " ";
  // Browsers refuse to rewrite the address too often; what is shown stays right without it.
  try {
    history.replaceState(null, "", hash === " " ? location.pathname + location.search : hash);
  } catch {
    return;
  }
}

const get = (key, fallback = "") => state.values.get(key) ?? fallback;

// Set several keys; an empty value or the default removes the key.
function set(changes, defaults = {}) {
  for (const [key, value] of Object.entries(changes)) {
    if (value === "" || value === undefined || value === defaults[key]) state.values.delete(key);
    else state.values.set(key, value);
  }
  writeHash();
}

function goTo(name) {
  state.at = name;
  writeHash();
  showSection(name);
}

function showSection(name) {
  const section = byId(name);
  if (section) bringIn(section);
  if (section) hold(section, () => section.scrollIntoView({ block: "start" }));
}

// Parts above a place may still grow as they are drawn: for a moment it is scrolled to again
// whenever it moves, until the reader does something or something else scrolls.
function hold(node, scroll) {
  const until = performance.now() + 1000;
  const stop = new AbortController();
  for (const type of ["wheel", "touchstart", "keydown", "pointerdown"]) {
    window.addEventListener(type, () => stop.abort(), { signal: stop.signal, passive: true });
  }
  // Where the node stands in the document, and how far the window was scrolled to it.
  let stood = null;
  let scrolled = 0;
  const follow = () => {
    if (stop.signal.aborted || !node.isConnected) return;
    const stands = node.getBoundingClientRect().top + window.scrollY;
    if (stood === null || Math.abs(stands - stood) > 1) {
      scroll();
      stood = stands;
      scrolled = window.scrollY;
    } else if (Math.abs(window.scrollY - scrolled) > 1) {
      stop.abort();
      return;
    }
    if (performance.now() < until) requestAnimationFrame(follow);
    else stop.abort();
  };
  follow();
}
