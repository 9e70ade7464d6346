// Buttons that copy a text of the page, and say so for a moment.

function startCopying() {
  for (const button of document.querySelectorAll("button[data-copy]")) {
    const label = button.textContent;
    button.addEventListener("click", async () => {
      if (!(await copyToClipboard(byId(button.dataset.copy).textContent))) return;
      button.textContent = t("page.copied");
      setTimeout(() => {
        button.textContent = label;
      }, 1500);
    });
  }
}
