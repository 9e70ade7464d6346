// Start: the theme before the first paint, the rest when the document is there.

applyTheme(remembered(THEME_KEY));

function start() {
  readHash();
  startTips();
  watchAddress();
  startExampleKeys();
  startLanguages(startPage);
}

// Starts every component on the content that stands now; called again after a switch of language.
async function startPage(core) {
  const first = !document.documentElement.dataset.started;
  document.documentElement.dataset.started = "true";
  startTheme();
  startNavigation();
  if (core.summary) {
    startOverview(core.summary);
    startSlices(core.summary, (kind, group) => openExamples({ where: [{ kind: "is", column: kind, values: [group] }] }));
  }
  startTraining(core.curves);
  if (first && state.at) showSection(state.at);
  await startExamples(core);
  await startRating(core);
}

if (document.readyState === "loading") document.addEventListener("DOMContentLoaded", start);
else start();
