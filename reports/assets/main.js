// Start: the theme before the first paint, the rest when the document is there.

applyTheme(remembered(THEME_KEY));

function start() {
  readHash();
  startTips();
  watchHelpKey();
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
  startHelp();
  startCopying();
  if (core.summary) startOverview(core.summary);
  startTraining(core.curves);
  await startData({ prompts: core.lineage });
  if (first && state.at) showSection(state.at);
  await startExamples(core);
  // What stands above has its height only now.
  if (first && state.at) revealSection(state.at);
  await startRating(core);
}

if (document.readyState === "loading") document.addEventListener("DOMContentLoaded", start);
else start();
