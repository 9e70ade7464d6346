// What every page starts with: the theme before the first paint, the rest when the document is there.

// `startParts(core, first)` starts the components of a page on the content that stands now; after
// a switch of language it is called again, with `first` false. `once` is started on the document.
function startWhenReady(startParts, ...once) {
  applyTheme(remembered(THEME_KEY));
  watchLate();
  const startPage = async (core) => {
    const root = document.documentElement;
    const first = !root.dataset.started;
    root.dataset.started = "true";
    startTheme();
    startNavigation();
    startHelp();
    await startParts(core, first);
    startLate();
  };
  const start = () => {
    unpackSaved();
    readHash();
    startTips();
    watchHelpKey();
    for (const begin of once) begin();
    startLanguages(startPage);
  };
  if (document.readyState === "loading") document.addEventListener("DOMContentLoaded", start);
  else start();
}
