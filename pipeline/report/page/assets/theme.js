// Light or dark: as the system says, until the reader chooses.

const dark = matchMedia("(prefers-color-scheme: dark)");
const theme = { chosen: null };

function showTheme(name) {
  document.documentElement.dataset.theme = name ?? theme.chosen ?? (dark.matches ? "dark" : "light");
}

// Paper is always light.
function followTheme() {
  showTheme();
  dark.addEventListener("change", () => showTheme());
  addEventListener("beforeprint", () => showTheme("light"));
  addEventListener("afterprint", () => showTheme());
}

function themeButton() {
  const made = button("", () => {
    theme.chosen = document.documentElement.dataset.theme === "dark" ? "light" : "dark";
    showTheme();
  }, { class: "plain theme", "aria-label": "Light or dark", title: "Light or dark" });
  made.append(svg("svg", { width: 16, height: 16, viewBox: "0 0 16 16", "aria-hidden": "true" }, svg("path", { fill: "currentColor", "fill-rule": "evenodd", d: "M8 1a7 7 0 1 0 0 14A7 7 0 0 0 8 1zm0 1.8v10.4A5.2 5.2 0 0 0 8 2.8z" })));
  return made;
}
