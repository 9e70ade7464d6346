// Start of the page about several runs.

applyTheme(remembered(THEME_KEY));

function start() {
  readHash();
  startTips();
  watchHelpKey();
  watchAddress();
  startExampleKeys();
  startLanguages(startRuns);
}

// Starts every component on the content that stands now; called again after a switch of language.
async function startRuns(core) {
  const first = !document.documentElement.dataset.started;
  document.documentElement.dataset.started = "true";
  startTheme();
  startNavigation();
  startHelp();
  startCopying();
  startChanges(core);
  startRunScores(core);
  startSweep(core);
  startRunCurves(core);
  if (first && state.at) showSection(state.at);
  await startExamples(core);
  if (first && state.at) revealSection(state.at);
}

if (document.readyState === "loading") document.addEventListener("DOMContentLoaded", start);
else start();
