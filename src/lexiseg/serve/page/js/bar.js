// The bar at the top: history, layouts, theme, full screen, help.

import { $, iconButton } from "./dom.js";
import { redo, undo } from "./edits.js";
import { fit } from "./viewer.js";
import { fullScreen } from "./keys.js";
import { on, state, tell } from "./state.js";
import { arrange, hasPlanes } from "./viewer.js";

const THEMES = ["auto", "light", "dark"];

function stored(name) {
  try {
    return localStorage.getItem(name);
  } catch {
    return null;
  }
}

function store(name, value) {
  try {
    localStorage.setItem(name, value);
  } catch {
    // A browser that keeps nothing forgets the theme, and no more.
  }
}

const dark = () => {
  const { theme } = document.documentElement.dataset;
  return theme === "dark" || (theme === "auto" && matchMedia("(prefers-color-scheme: dark)").matches);
};

function setTheme(theme) {
  document.documentElement.dataset.theme = theme;
  store("lexiseg-theme", theme);
  const button = $("#theme");
  const words = dark() ? "Light page" : "Dark page";
  button.setAttribute("aria-label", words);
  button.title = words;
  $("use", button).setAttribute("href", `icons.svg#${dark() ? "sun" : "moon"}`);
}

export function layout(name) {
  state.layout = name;
  arrange();
  tell("layout");
}

function render() {
  const { scan } = state;
  $("#undo").disabled = !scan?.can_undo;
  $("#redo").disabled = !scan?.can_redo;
  for (const button of $("#layouts").querySelectorAll("[data-layout]")) {
    button.setAttribute("aria-pressed", String(button.dataset.layout === state.layout));
  }
  $("[data-layout=three]").hidden = !hasPlanes();
  $("[data-layout=surface]").hidden = !(state.about.view3d && scan?.kind === "volume");
  $("[data-layout=compare]").hidden = (state.about.presets ?? []).length < 2;
}

export function setUpBar() {
  const lay = (name, label, run = () => layout(name)) =>
    iconButton(name === "surface" ? "cube" : name, label, run, { "data-layout": name, "aria-pressed": "false" });
  $("#history").append(
    iconButton("undo", "Undo (Ctrl+Z)", undo, { id: "undo" }),
    iconButton("redo", "Redo (Ctrl+Shift+Z)", redo, { id: "redo" }),
  );
  $("#layouts").append(
    lay("one", "One plane"),
    lay("three", "Three planes"),
    lay("compare", "Compare two presets", () => tell("comparing")),
    lay("surface", "3D surface", () => tell("surface")),
    iconButton("fit", "Fit to the window (0)", fit),
    iconButton("screen", "Full screen (F)", fullScreen),
  );
  $("#looks").append(
    iconButton("moon", "Dark page", () => setTheme(dark() ? "light" : "dark"), { id: "theme" }),
    iconButton("help", "Keys and help (?)", () => tell("help"), { id: "help-open" }),
  );
  const kept = stored("lexiseg-theme");
  setTheme(THEMES.includes(kept) ? kept : "auto");
  on("scan targets panes layout", render);
}
