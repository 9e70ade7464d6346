// Start of the data page: the theme before the first paint, the rest when the document is there.

applyTheme(remembered(THEME_KEY));

const kept = { data: null };

function start() {
  readHash();
  startTips();
  watchAddress();
  startLanguages(startPage);
}

// Starts every component on the content that stands now; called again after a switch of language.
async function startPage() {
  const first = !document.documentElement.dataset.started;
  document.documentElement.dataset.started = "true";
  startTheme();
  startNavigation();
  const data = await unpacked();
  if (data) {
    const rejects = startRejects(data.rejects);
    startDuplicates(data.clusters, data.pairs);
    startSharedTexts(data.contamination);
    startRows(data.rows);
    startRuleLinks(rejects);
  }
  if (first && state.at) showSection(state.at);
}

async function unpacked() {
  const packed = byId("packed-data");
  const say = (text) => {
    for (const root of document.querySelectorAll("[data-browser]")) {
      refill(root, el("p", { class: "empty", role: "status" }, text));
    }
  };
  if (typeof DecompressionStream === "undefined") {
    say(t("dp.unsupported"));
    return null;
  }
  try {
    kept.data ??= unpack(packed.textContent);
    const data = await kept.data;
    packed?.remove();
    return data;
  } catch {
    say(t("dp.broken"));
    return null;
  }
}

// A rule of the funnel leads to its examples.
function startRuleLinks(rejects) {
  for (const link of document.querySelectorAll("a[data-rule]")) {
    link.addEventListener("click", (event) => {
      event.preventDefault();
      if (!rejects) return;
      set({ "reject.rule": link.dataset.rule, "reject.q": "", "reject.page": "", "reject.source": "" });
      rejects.draw();
      goTo("rejects");
      rejects.controls.querySelector("input").focus({ preventScroll: true });
    });
  }
}

if (document.readyState === "loading") document.addEventListener("DOMContentLoaded", start);
else start();
