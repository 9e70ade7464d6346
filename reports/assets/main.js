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

function startNavigation() {
  const links = [...document.querySelectorAll("a[data-nav], a.brand")];
  for (const link of links) {
    link.addEventListener("click", (event) => {
      event.preventDefault();
      goTo(link.getAttribute("href").slice(1));
    });
  }
  document.querySelector(".skip").addEventListener("click", (event) => {
    event.preventDefault();
    byId("main").focus();
  });
  const seen = new IntersectionObserver(
    (entries) => {
      for (const entry of entries) {
        if (!entry.isIntersecting) continue;
        for (const link of links) {
          if (link.dataset.nav === entry.target.id) link.setAttribute("aria-current", "true");
          else link.removeAttribute("aria-current");
        }
      }
    },
    { rootMargin: "-20% 0px -75% 0px" },
  );
  for (const section of document.querySelectorAll("main > section")) seen.observe(section);
  // A link inside the page or a changed address: start again from what it says.
  window.addEventListener("hashchange", () => location.reload());
}

if (document.readyState === "loading") document.addEventListener("DOMContentLoaded", start);
else start();
