// Start of the components about data: what is packed is unpacked when it comes near the window,
// or when the address asks for it.

const dataKept = { promise: null, observer: null, rows: null, rejects: null, prompts: false };
const DATA_KEYS = ["row.", "reject.", "pair.", "shared."];

// `prompts`: whether prompts of the evaluation are among the rows.
async function startData({ atOnce = false, prompts = false } = {}) {
  dataKept.prompts = prompts;
  const roots = everywhere("[data-browser]");
  dataKept.observer?.disconnect();
  dataKept.rows = null;
  if (!roots.length) return;
  startRuleLinks();
  const asked = [...state.values.keys()].some((key) => DATA_KEYS.some((prefix) => key.startsWith(prefix)));
  if (atOnce || asked || dataKept.promise) {
    await showData();
    return;
  }
  dataKept.observer = new IntersectionObserver(
    (entries) => {
      if (entries.some((entry) => entry.isIntersecting)) showData();
    },
    { rootMargin: "1200px" },
  );
  for (const root of roots) dataKept.observer.observe(root);
}

// Unpacks what there is, once, and starts the components; the browser of rejects, or null.
async function showData() {
  dataKept.observer?.disconnect();
  const data = await unpackedData();
  if (!data || dataKept.rows) return;
  dataKept.rejects = startRejects(data.rejects);
  startDuplicates(data.clusters, data.pairs);
  startSharedTexts(data.contamination);
  dataKept.rows = startRows(data.lineage, data.streams);
}

async function unpackedData() {
  const say = (text) => {
    for (const root of everywhere("[data-browser]")) {
      refill(root, el("p", { class: "empty", role: "status" }, text));
    }
  };
  if (typeof DecompressionStream === "undefined") {
    say(t("dp.unsupported"));
    return null;
  }
  try {
    dataKept.promise ??= unpackedParts();
    return await dataKept.promise;
  } catch {
    say(t("dp.broken"));
    return null;
  }
}

async function unpackedParts() {
  const [samples, lineage] = await Promise.all(
    ["packed-data", "packed-rows"].map(async (id) => {
      const packed = byId(id);
      const value = await unpack(packed.textContent);
      packed.remove();
      return value;
    }),
  );
  return { ...samples, lineage: { ...lineage, index: lineageIndex(lineage.rows) } };
}

// A rule of the funnel leads to its examples.
function startRuleLinks() {
  for (const link of document.querySelectorAll("a[data-rule]")) {
    link.addEventListener("click", async (event) => {
      event.preventDefault();
      set({ "reject.rule": link.dataset.rule, "reject.q": "", "reject.page": "", "reject.source": "" });
      await showData();
      if (!dataKept.rejects) return;
      dataKept.rejects.draw();
      goTo("rejects");
      dataKept.rejects.controls.querySelector("input").focus({ preventScroll: true });
    });
  }
}

// For the examples: the way from a prompt to where it comes from; null where the data know none.
function lineageLink(id) {
  if (!dataKept.prompts) return null;
  const button = el("button", { type: "button", class: "link", "data-action": "lineage", on: { click: () => openLineage(id) } }, t("dp.prompt_from"));
  return el("p", { class: "lineage-link" }, button);
}

// For other parts of the page: shows where a row of the data comes from, by its id.
async function openLineage(id) {
  await showData();
  dataKept.rows?.open(id);
}
