// Links of the bar and the skip link; the section in view is marked.

const inView = { observer: null };

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
  inView.observer?.disconnect();
  inView.observer = new IntersectionObserver(
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
  for (const section of document.querySelectorAll("main > section")) inView.observer.observe(section);
}

// Once: a link inside the page or a changed address starts again from what it says.
function watchAddress() {
  window.addEventListener("hashchange", () => location.reload());
}
