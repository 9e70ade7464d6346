// Start of the data page: the theme before the first paint, the rest when the document is there.

applyTheme(remembered(THEME_KEY));

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
  await startData({ atOnce: true });
  if (first && state.at) showSection(state.at);
}

if (document.readyState === "loading") document.addEventListener("DOMContentLoaded", start);
else start();
