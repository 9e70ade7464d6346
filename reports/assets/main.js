// Start: the theme before the first paint, the rest when the document is there.

applyTheme(storedTheme());

function start() {
  const core = JSON.parse(byId("core").textContent);
  STRINGS = core.strings;
  readHash();
  startTheme();
  startTips();
  startNavigation();
  let browser = null;
  if (core.summary) {
    startOverview(core.summary);
    startSlices(core.summary, (kind, group) => browser?.showGroup(kind, group));
  }
  startTraining(core.curves);
  if (state.at) showSection(state.at);
  startAnswers(core.summary).then((started) => {
    browser = started;
    document.documentElement.dataset.ready = "true";
  });
}

if (document.readyState === "loading") document.addEventListener("DOMContentLoaded", start);
else start();
