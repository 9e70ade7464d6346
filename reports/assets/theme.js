// Light, dark, or as the system; remembered where the browser allows it.

const THEME_KEY = "espalier-theme";

function storedTheme() {
  try {
    return localStorage.getItem(THEME_KEY) ?? "auto";
  } catch {
    return "auto";
  }
}

function applyTheme(theme) {
  if (theme === "light" || theme === "dark") document.documentElement.dataset.theme = theme;
  else delete document.documentElement.dataset.theme;
}

function startTheme() {
  const select = byId("theme");
  select.value = ["light", "dark"].includes(storedTheme()) ? storedTheme() : "auto";
  select.addEventListener("change", () => {
    applyTheme(select.value);
    try {
      localStorage.setItem(THEME_KEY, select.value);
    } catch {
      return;
    }
  });
}
