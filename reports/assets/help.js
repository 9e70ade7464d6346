// The sheet of keys: opened by its button or by "?", closed by Escape or its button.

function startHelp() {
  const sheet = byId("help");
  byId("help-open").addEventListener("click", () => sheet.showModal());
  byId("help-close").addEventListener("click", () => sheet.close());
  // A press beside the sheet falls on the dialog itself.
  sheet.addEventListener("click", (event) => {
    if (event.target === sheet) sheet.close();
  });
}

// Once.
function watchHelpKey() {
  document.addEventListener("keydown", (event) => {
    if (event.key !== "?" || event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.target.closest?.("input:not([type=checkbox], [type=radio]), textarea, select")) return;
    event.preventDefault();
    hideTip();
    if (!byId("help").open) byId("help").showModal();
  });
}
