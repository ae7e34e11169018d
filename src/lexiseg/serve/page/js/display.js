// How the scan and the masks are shown: window, style, heat.

import { $, el, iconButton, short } from "./dom.js";
import { invert, show } from "./keys.js";
import { on, state, tell } from "./state.js";
import { complain } from "./say.js";

/** Windows to choose from: the scan's own, all of its values, and named ones where its values are Hounsfield units. */
function windows() {
  const { scan } = state;
  const [low, high] = scan.colour ? [0, 255] : scan.range;
  const own = scan.window ? { name: "as opened", low: scan.window.low, high: scan.window.high } : null;
  const all = { name: "all values", low, high };
  const named = scan.unit === "HU" ? Object.entries(state.about.windows ?? {}) : [];
  return [
    own,
    all,
    ...named.map(([name, [centre, width]]) => ({ name, low: centre - width / 2, high: centre + width / 2 })),
  ].filter(Boolean);
}

export function resetWindow() {
  const [first] = windows();
  state.window = { ...first };
  state.invert = false;
}

function chooseWindow(name) {
  const found = windows().find((each) => each.name === name);
  if (!found) return;
  state.window = { ...found };
  tell("display");
}

function typed() {
  const centre = Number($("#window-centre").value);
  const width = Number($("#window-width").value);
  if (!Number.isFinite(centre) || !(width > 0)) {
    complain("The window's width must be above 0; type a centre and a width in the scan's units.");
    return;
  }
  state.window = { low: centre - width / 2, high: centre + width / 2, name: "custom" };
  tell("display");
}

function segmented(name, label, options) {
  return el(
    "fieldset",
    { class: "segmented", "aria-label": label },
    ...options.map(([value, words]) =>
      el(
        "label",
        {},
        el("input", { type: "radio", name, value, on: { change: () => show(name, value) } }),
        el("span", { text: words }),
      ),
    ),
  );
}

function toggle(name, words, key) {
  return el(
    "label",
    { class: "check" },
    el("input", { type: "checkbox", "data-show": name, on: { change: (event) => show(name, event.target.checked) } }),
    el("span", { text: words }),
    key ? el("kbd", { text: key }) : null,
  );
}

export function setUpDisplay() {
  const number = (id, words) =>
    el(
      "label",
      { class: "number" },
      el("span", { text: words }),
      el("input", { type: "number", id, class: "input", step: "any", on: { change: typed } }),
    );
  $("#display").append(
    el(
      "div",
      { class: "row spread" },
      el("label", { for: "window-name", text: "Window" }),
      el("select", {
        id: "window-name",
        class: "input select",
        on: { change: (event) => chooseWindow(event.target.value) },
      }),
      iconButton("invert", "Invert black and white (I)", invert, { id: "invert", "aria-pressed": "false" }),
    ),
    el("div", { class: "row numbers" }, number("window-centre", "Centre"), number("window-width", "Width")),
    el(
      "div",
      { class: "row spread" },
      el("span", { text: "Masks" }),
      segmented("style", "Masks as", [
        ["both", "Both"],
        ["outline", "Outline"],
        ["fill", "Fill"],
      ]),
    ),
    el(
      "div",
      { class: "slider-row" },
      el("label", { for: "opacity", text: "Opacity" }),
      el("output", { id: "opacity-value", for: "opacity" }),
      el("input", {
        type: "range",
        id: "opacity",
        min: "0",
        max: "1",
        step: "0.05",
        on: { input: (event) => show("opacity", Number(event.target.value)) },
      }),
    ),
    el(
      "div",
      { class: "checks" },
      toggle("masks", "Masks", "V"),
      toggle("prompts", "Points and boxes"),
      toggle("saliency", "Heat map", "Y"),
      toggle("region", "Region"),
      toggle("smooth", "Smooth pixels"),
    ),
  );
  on("display scan", render);
}

function render() {
  if (!state.scan) return;
  const select = $("#window-name");
  const names = windows().map((each) => each.name);
  if (!names.includes(state.window.name)) names.push("custom");
  if (select.dataset.names !== names.join()) {
    select.dataset.names = names.join();
    select.replaceChildren(...names.map((name) => el("option", { value: name, text: name })));
  }
  select.value = names.includes(state.window.name) ? state.window.name : "custom";
  const { low, high } = state.window;
  for (const [id, value] of [
    ["#window-centre", (low + high) / 2],
    ["#window-width", high - low],
  ]) {
    if (document.activeElement !== $(id)) $(id).value = short(value).replace("–", "");
  }
  $("#invert").setAttribute("aria-pressed", String(state.invert));
  for (const box of $("#display").querySelectorAll("[data-show]")) box.checked = state.show[box.dataset.show];
  for (const radio of $("#display").querySelectorAll("[name=style]")) radio.checked = radio.value === state.show.style;
  $("#opacity").value = state.show.opacity;
  $("#opacity-value").textContent = `${Math.round(100 * state.show.opacity)} %`;
}
